"""What is free is the least of what the system and the container's limit leave."""

import numpy as np
import pytest

from psalm.core.memory import available_bytes

MEMINFO = "MemTotal: 100 kB\nMemAvailable:  50 kB\n"


@pytest.fixture
def system(tmp_path):
    (tmp_path / "meminfo").write_text(MEMINFO)
    return tmp_path


def test_of_the_system(system):
    assert available_bytes(system / "none", system / "meminfo") == 50 * 1024


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", 50 * 1024), ("30000", 30000 - 12000 + 2000), ("900000", 50 * 1024)]
)
def test_of_a_control_group(system, limit, expected):
    """Version 2: without a limit, with one that is nearer than the system's, with one that is farther."""
    (system / "memory.max").write_text(limit + "\n")
    (system / "memory.current").write_text("12000\n")
    (system / "memory.stat").write_text("anon 10000\ninactive_file 2000\n")
    assert available_bytes(system, system / "meminfo") == expected


def test_of_the_first_version(system):
    (system / "memory").mkdir()
    (system / "memory" / "memory.limit_in_bytes").write_text("20000")
    (system / "memory" / "memory.usage_in_bytes").write_text("15000")
    assert available_bytes(system, system / "meminfo") == 5000


def test_here():
    assert 0 < available_bytes() < np.inf
