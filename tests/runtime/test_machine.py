import os
import platform

import pytest

from onnxpipe.machine import Machine, inspect_machine

GIB = 2**30
V1_UNLIMITED = 9223372036854771712  # 2**63 rounded down to a page


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch):
    """The CPU set is the one thing that is not read from a file."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)


@pytest.fixture
def tree(tmp_path):
    """Writes files under a fake root; returns the machine seen there."""

    def write(**files):
        for name, content in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return inspect_machine(tmp_path)

    return lambda files: write(**files)


def machine(**changes):
    fields = {
        "architecture": "x86_64",
        "isa": (),
        "cpu_set": 8,
        "physical_cores": 4,
        "quota_cpus": None,
        "memory_total_bytes": None,
        "memory_limit_bytes": None,
    }
    return Machine(**(fields | changes))


def test_an_empty_tree_limits_nothing(tree):
    seen = tree({})
    assert seen == Machine(
        architecture=platform.machine(),
        isa=(),
        cpu_set=4,
        physical_cores=4,
        quota_cpus=None,
        memory_total_bytes=None,
        memory_limit_bytes=None,
    )
    assert seen.threads == 4


def test_without_affinity_every_cpu_counts(tree, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert tree({}).cpu_set == 6


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        ({}, 4),
        ({"cpu_set": 2}, 2),
        ({"quota_cpus": 3.0}, 3),
        ({"quota_cpus": 2.5}, 3),
        ({"quota_cpus": 0.5}, 1),
        ({"quota_cpus": 64.0}, 4),
    ],
)
def test_threads_are_the_smallest_limit_rounded_up(changes, threads):
    assert machine(**changes).threads == threads


def test_the_reason_names_all_three_limits():
    assert machine().reason == "the smallest of no CPU quota, a CPU set of 8 and 4 physical cores"
    assert "a CPU quota of 1.5," in machine(quota_cpus=1.5).reason


def test_a_version_2_quota_of_the_own_group_counts(tree):
    seen = tree({"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "150000 100000\n"})
    assert seen.quota_cpus == 1.5
    assert seen.threads == 2


def test_a_version_2_quota_of_a_parent_group_counts(tree):
    seen = tree(
        {
            "proc/self/cgroup": "0::/pod/app\n",
            "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pod/cpu.max": "200000 100000\n",
            "sys/fs/cgroup/cpu.max": "300000 100000\n",
        }
    )
    assert seen.quota_cpus == 2.0


def test_a_container_with_its_own_namespace_reads_the_top_group(tree):
    seen = tree({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert seen.quota_cpus == 0.5
    assert seen.threads == 1


def test_a_version_2_group_without_a_quota_limits_nothing(tree):
    seen = tree({"proc/self/cgroup": "0::/app\n", "sys/fs/cgroup/app/cpu.max": "max 100000\n"})
    assert seen.quota_cpus is None


def test_a_version_1_quota_of_the_own_group_counts(tree):
    seen = tree(
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/app\n1:name=systemd:/app\n",
            "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_quota_us": "250000\n",
            "sys/fs/cgroup/cpu,cpuacct/app/cpu.cfs_period_us": "100000\n",
        }
    )
    assert seen.quota_cpus == 2.5


def test_a_version_1_quota_is_found_at_the_top_when_the_group_is_not_mounted(tree):
    # docker with cgroup v1: the path is the host's, the mount is the container's own group
    seen = tree(
        {
            "proc/self/cgroup": "4:cpu:/docker/0123\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        }
    )
    assert seen.quota_cpus == 1.0


def test_a_version_1_quota_of_minus_one_limits_nothing(tree):
    seen = tree(
        {
            "proc/self/cgroup": "4:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        }
    )
    assert seen.quota_cpus is None


def test_the_quota_of_another_controller_or_group_does_not_count(tree):
    seen = tree(
        {
            "proc/self/cgroup": "4:memory:/app\n0::/app\n",
            "sys/fs/cgroup/memory/app/cpu.cfs_quota_us": "100000",
            "sys/fs/cgroup/memory/app/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/neighbour/cpu.max": "100000 100000",
        }
    )
    assert seen.quota_cpus is None


def test_the_memory_limit_is_the_smallest_along_the_path(tree):
    seen = tree(
        {
            "proc/meminfo": "MemTotal:       16777216 kB\nMemFree: 1 kB\n",
            "proc/self/cgroup": "0::/pod/app\n",
            "sys/fs/cgroup/pod/app/memory.max": "max\n",
            "sys/fs/cgroup/pod/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.max": f"{3 * GIB}\n",
        }
    )
    assert seen.memory_total_bytes == 16 * GIB
    assert seen.memory_limit_bytes == 2 * GIB


@pytest.mark.parametrize(("limit", "expected"), [(V1_UNLIMITED, None), (32 * GIB, None), (GIB, GIB)])
def test_a_version_1_memory_limit_counts_when_it_is_below_the_machine(tree, limit, expected):
    seen = tree(
        {
            "proc/meminfo": "MemTotal: 16777216 kB\n",
            "proc/self/cgroup": "9:memory:/app\n",
            "sys/fs/cgroup/memory/app/memory.limit_in_bytes": f"{limit}\n",
        }
    )
    assert seen.memory_limit_bytes == expected


def siblings(*lists):
    return {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": text for cpu, text in enumerate(lists)}


@pytest.mark.parametrize(
    ("lists", "cores"),
    [
        (("0-1\n", "0-1\n", "2-3\n", "2-3\n"), 2),
        (("0,4", "1,5", "2,6", "3,7"), 4),  # the other halves of the cores are not in the CPU set
        (("0-3",) * 4, 1),
        (("0-1", "0-1", "2-3"), 4),  # one is missing: count CPUs
    ],
)
def test_hyper_threads_of_one_core_count_once(tree, lists, cores):
    assert tree(siblings(*lists)).physical_cores == cores


@pytest.mark.parametrize(
    ("line", "isa"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni sse\n", ("avx2", "avx512f", "avx512_vnni")),
        ("Features\t: fp asimd asimddp i8mm\n", ("asimd", "asimddp", "i8mm")),
        ("model name: x\n", ()),
    ],
)
def test_the_instruction_sets_that_matter_are_found_on_both_architectures(tree, line, isa):
    assert tree({"proc/cpuinfo": f"processor\t: 0\n{line}"}).isa == isa


def test_the_real_machine_has_at_least_one_thread():
    assert inspect_machine().threads >= 1
