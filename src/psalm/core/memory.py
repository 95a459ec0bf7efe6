"""How much memory there is: what the system says is free, within the limit of the container or the batch job."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
LIMITS = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))
"""Files of control groups, version 2 and version 1: the limit and what is used of it."""
MEMINFO = Path("/proc/meminfo")


def available_bytes(cgroup: Path = CGROUP, meminfo: Path = MEMINFO) -> float:
    """Bytes that this process may still take; infinite where the system does not say."""
    return min(_of_system(meminfo), *(_of_group(cgroup / limit, cgroup / used) for limit, used in LIMITS))


def _of_system(meminfo: Path) -> float:
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            return float(lines["MemAvailable"].split()[0]) * 1024
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _of_group(limit: Path, used: Path) -> float:
    """What is left of a control group's limit. Its files, kept in memory by the system, count as free."""
    try:
        most, now = limit.read_text().strip(), float(used.read_text())
    except (OSError, ValueError):
        return float("inf")
    return float("inf") if not most.isdigit() else max(0.0, float(most) - now + _cached(limit.parent / "memory.stat"))


def _cached(stat: Path) -> float:
    """Bytes of files that a control group holds and would drop."""
    try:
        pairs = (line.split() for line in stat.read_text().splitlines())
        found = {name: float(value) for name, value in pairs}
    except (OSError, ValueError):
        return 0.0
    return found.get("inactive_file", found.get("total_inactive_file", 0.0))
