"""What is free is the least of what the system and the limits of all control groups above the process leave."""

import numpy as np
import pytest

from psalm.core.memory import available_bytes

FREE = 50 * 1024
MEMINFO = "MemTotal: 100 kB\nMemAvailable:  50 kB\n"


class System:
    """Files as Linux shows them: what is free, mounted control groups, and the group of this process."""

    def __init__(self, place):
        self.proc, self.mount = place / "proc", place / "mounted"
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "meminfo").write_text(MEMINFO)

    def version_2(self, own, top="/"):
        (self.proc / "self" / "cgroup").write_text(f"0::{own}\n")
        mount = f"31 23 0:28 {top} {self.mount} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
        (self.proc / "self" / "mountinfo").write_text("23 1 0:2 / /proc rw - proc proc rw\n" + mount)

    def version_1(self, own, top="/"):
        (self.proc / "self" / "cgroup").write_text(f"5:cpu,cpuacct:/other\n4:hugetlb,memory:{own}\n0::/elsewhere\n")
        mounts = f"35 31 0:32 {top} {self.mount} rw,relatime - cgroup cgroup rw,memory\n"
        mounts += f"36 31 0:33 / {self.mount} rw,relatime - cgroup cgroup rw,cpu\n"
        (self.proc / "self" / "mountinfo").write_text(mounts)

    def limit(self, group, most, used, stat="", version=2):
        folder = self.mount / group
        folder.mkdir(parents=True, exist_ok=True)
        names = ("memory.max", "memory.current")
        if version == 1:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        for name, value in zip((*names, "memory.stat"), (most, used, stat), strict=True):
            (folder / name).write_text(f"{value}\n")

    @property
    def available(self):
        return available_bytes(self.proc)


@pytest.fixture
def system(tmp_path):
    return System(tmp_path)


def test_of_the_system(system):
    assert system.available == FREE


@pytest.mark.parametrize(
    ("limit", "expected"), [("max", FREE), ("30000", 30000 - 12000 + 2000), ("900000", FREE), ("1000", 0)]
)
def test_of_a_control_group(system, limit, expected):
    """Version 2: without a limit, with one that is nearer than the system's, with one that is farther, overdrawn."""
    system.version_2("/")
    system.limit("", limit, 12000, "anon 10000\ninactive_file 2000")
    assert system.available == expected


def test_of_the_first_version(system):
    system.version_1("/")
    system.limit("", 20000, 15000, version=1)
    assert system.available == 5000


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("limited", ["slurm", "slurm/job_7", "slurm/job_7/step_0", "slurm/job_7/step_0/task_0"])
def test_the_limit_may_be_that_of_any_group_above(system, version, limited):
    """As Slurm nests them: user, job, step and task, of which one has a limit, and the others none or a wider one."""
    (system.version_1 if version == 1 else system.version_2)("/slurm/job_7/step_0/task_0")
    for group in ("", "slurm", "slurm/job_7", "slurm/job_7/step_0", "slurm/job_7/step_0/task_0"):
        most = 20000 if group == limited else 40000 if group == "slurm" else 2**63 - 4096 if version == 1 else "max"
        system.limit(group, most, 9000, version=version)
    system.limit("slurm/job_8", 100, 90, version=version)  # of another job
    assert system.available == 11000


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_sees_its_own_group_at_the_mount(system, version):
    """Without a namespace of groups the path is that of the host, and what is mounted begins at the container's."""
    (system.version_1 if version == 1 else system.version_2)("/docker/abc/inner", top="/docker/abc")
    system.limit("", 30000, 10000, version=version)
    system.limit("inner", 90000, 9000, version=version)
    assert system.available == 20000


def test_a_group_outside_the_namespace(system):
    """The path leads out of what is mounted, whose top has a limit that counts."""
    system.version_2("/../other")
    system.limit("", 30000, 10000)
    assert system.available == 20000


def test_files_that_groups_within_hold_count_as_free(system):
    """In version 1 ``total_`` includes the groups within, as ``usage_in_bytes`` does."""
    system.version_1("/job")
    system.limit("job", 30000, 25000, "inactive_file 0\ntotal_inactive_file 15000", version=1)
    assert system.available == 20000


def test_a_system_without_these_files(tmp_path):
    assert 0 < available_bytes(tmp_path) <= np.inf


def test_here():
    assert 0 < available_bytes() < np.inf
