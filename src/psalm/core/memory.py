"""How much memory there is: what the system says is free, within the limits of containers and batch jobs."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PROC = Path("/proc")
V2, V1 = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
"""Files of a control group, version 2 and version 1: the limit and what is used of it."""


class _Hierarchy(NamedTuple):
    """Control groups as they are mounted: where, which group is at the top there, and the names of their files."""

    mount: Path
    top: PurePosixPath
    files: tuple[str, str]


def available_bytes(proc: Path = PROC) -> float:
    """Bytes that this process may still take; infinite where the system does not say.

    Batch systems nest control groups, and any of them may have the limit: that of the job, of a step of it, or of the
    user. All groups above the process count, and the smallest remainder is what is left.
    """
    return min(_of_system(proc / "meminfo"), *(_of_group(*group) for group in _groups(proc)), float("inf"))


def _of_system(meminfo: Path) -> float:
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            return float(lines["MemAvailable"].split()[0]) * 1024
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return float("inf")


def _groups(proc: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Folders of the groups that this process is in, from its own to the top, with the names of their files."""
    own = _own_groups(_read(proc / "self" / "cgroup"))
    for mount, top, files in _hierarchies(_read(proc / "self" / "mountinfo")):
        if files not in own:
            continue
        inside = own[files].relative_to(top) if own[files].is_relative_to(top) else PurePosixPath()
        for folder in (inside, *inside.parents):
            yield mount / folder, files


def _own_groups(text: str) -> dict[tuple[str, str], PurePosixPath]:
    """The group of this process in each version, from lines ``4:memory:/job`` and, of version 2, ``0::/job``."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        # outside its namespace a group is "/../other": what can be seen begins at the mount
        place = PurePosixPath("/", *(part for part in path.split("/") if part not in {"", ".."}))
        if not controllers:
            found[V2] = place
        elif "memory" in controllers.split(","):
            found[V1] = place
    return found


def _hierarchies(text: str) -> Iterator[_Hierarchy]:
    """The mounts of groups that limit memory, from lines ``id parent device top mount … - type source options``."""
    for line in text.splitlines():
        first, _, last = (part.split() for part in line.partition(" - "))
        if last[0] == "cgroup2" or (last[0] == "cgroup" and "memory" in last[2].split(",")):
            files = V2 if last[0] == "cgroup2" else V1
            yield _Hierarchy(Path(first[4]), PurePosixPath(first[3]), files)


def _of_group(folder: Path, files: tuple[str, str]) -> float:
    """What is left of a control group's limit. Its files, kept in memory by the system, count as free."""
    most, now = (_read(folder / name).strip() for name in files)
    if not (most.isdigit() and now.isdigit()):  # "max", or no such file
        return float("inf")
    return max(0.0, float(most) - float(now) + _cached(folder / "memory.stat"))


def _cached(stat: Path) -> float:
    """Bytes of files that a control group holds and would drop, those of groups within it included."""
    pairs = (line.split() for line in _read(stat).splitlines())
    found = {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}  # noqa: PLR2004, name and value
    return found.get("total_inactive_file", found.get("inactive_file", 0.0))


def _read(path: Path) -> str:
    """The text of a file of the system, empty where it is not there or not to be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
