"""What this process may use of the machine: CPUs, memory and instructions, and the thread plan that follows.

Inside a container the host's core count is wrong: a session with 64 threads under a two-CPU quota runs several times
slower than one with two. So the plan is the smallest of the cgroup quota (v1 or v2), the CPU set and the physical
cores.
"""

import dataclasses
import math
import os
import platform
from collections.abc import Iterator
from pathlib import Path

# what decides which integer kernels onnxruntime can use, per architecture
_ISA_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimd", "asimddp", "i8mm", "sve")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """The limits of this process. `quota_cpus` and `memory_limit_bytes` are None when nothing limits them."""

    architecture: str
    isa: tuple[str, ...]
    cpu_set: int
    physical_cores: int
    quota_cpus: float | None
    memory_total_bytes: int | None
    memory_limit_bytes: int | None

    @property
    def threads(self) -> int:
        """Threads to run one session with. A fraction of a CPU counts as one: a throttled thread still works."""
        quota = math.inf if self.quota_cpus is None else math.ceil(self.quota_cpus)
        return max(1, int(min(quota, self.cpu_set, self.physical_cores)))

    @property
    def reason(self) -> str:
        """Why `threads` is what it is, in words."""
        quota = "no CPU quota" if self.quota_cpus is None else f"a CPU quota of {self.quota_cpus:g}"
        return f"the smallest of {quota}, a CPU set of {self.cpu_set} and {self.physical_cores} physical cores"


def inspect_machine(root: Path = Path("/")) -> Machine:
    """The machine as this process sees it; `root` stands for the file system's root in tests."""
    cpus = _cpu_set()
    flags = set(_cpu_flags(root))
    return Machine(
        architecture=platform.machine(),
        isa=tuple(flag for flag in _ISA_FLAGS if flag in flags),
        cpu_set=len(cpus),
        physical_cores=_physical_cores(root, cpus),
        quota_cpus=_cpu_quota(root),
        memory_total_bytes=_memory_total(root),
        memory_limit_bytes=_memory_limit(root),
    )


def _cpu_set() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _cpu_flags(root: Path) -> list[str]:
    for line in _read(root / "proc/cpuinfo").splitlines():
        if line.lower().startswith(("flags", "features")):
            return line.partition(":")[2].split()
    return []


def _physical_cores(root: Path, cpus: set[int]) -> int:
    """Cores behind the CPU set: hyper-threads of one core count once."""
    siblings = [_read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus]
    return len(set(siblings)) if all(siblings) else len(cpus)


def _cpu_quota(root: Path) -> float | None:
    """CPUs per period, the smallest along the group's path: a limit on a parent group holds too."""
    quotas = []
    for group in _groups(root, "cpu"):
        version2 = _read(group / "cpu.max").split()
        if len(version2) == 2 and version2[0] != "max":
            quotas.append(int(version2[0]) / int(version2[1]))
        quota, period = _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _memory_limit(root: Path) -> int | None:
    texts = [
        _read(group / name) for group in _groups(root, "memory") for name in ("memory.max", "memory.limit_in_bytes")
    ]
    limits = [int(text) for text in texts if text.isdigit()]
    total = _memory_total(root)
    # without a limit, v1 reports a number near 2**63
    return min((limit for limit in limits if total is None or limit < total), default=None)


def _memory_total(root: Path) -> int | None:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of this process's control group and its parents, for cgroup v2 and v1."""
    mount = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = mount / controllers if controllers else mount
        group = top / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(top))


def _read(file: Path) -> str:
    """A small system file's text without the ends' white space; empty when there is none."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
