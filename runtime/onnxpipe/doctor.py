"""What onnxpipe finds on this machine, for `onnxpipe doctor`: versions, providers, threads, memory, instructions."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Iterable

from onnxpipe.errors import ProviderUnavailable
from onnxpipe.machine import Machine, inspect_machine
from onnxpipe.session import available_providers
from onnxpipe.version import __version__

_PACKAGES = (
    "numpy",
    "pillow",
    "tokenizers",
    "onnxruntime",
    "onnxruntime-gpu",
    "fastapi",
    "uvicorn",
    "torch",
    "optimum-onnx",
)
# any of these makes integer matrix products much faster than fp32 ones
_FAST_INT8 = {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The findings; `advice` holds one line per thing worth changing."""

    versions: dict[str, str]
    platform: str
    providers: list[str]
    machine: Machine
    threads: int
    threads_reason: str
    advice: list[str]


def diagnose() -> Diagnosis:
    """Look at this machine and environment; nothing is changed and nothing leaves the machine."""
    machine = inspect_machine()
    versions = {"onnxpipe": __version__, "python": platform.python_version()} | installed_versions(_PACKAGES)
    return Diagnosis(
        versions=versions,
        platform=platform.platform(),
        providers=_providers(),
        machine=machine,
        threads=machine.threads,
        threads_reason=machine.reason,
        advice=_advice(versions, machine),
    )


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those of the packages that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def render(diagnosis: Diagnosis) -> list[str]:
    """The findings as lines for a terminal."""
    machine = diagnosis.machine
    limit = machine.memory_limit_bytes
    rows = [
        ("platform", diagnosis.platform),
        ("versions", ", ".join(f"{name} {version}" for name, version in diagnosis.versions.items())),
        ("providers", ", ".join(diagnosis.providers) or "none"),
        ("threads", f"{diagnosis.threads} ({diagnosis.threads_reason})"),
        (
            "memory",
            f"{_gib(machine.memory_total_bytes)} in all, {_gib(limit) if limit else 'no'} limit on this process",
        ),
        ("instructions", ", ".join(machine.isa) or "none that matter were found"),
        (
            "int8",
            "fast here" if _FAST_INT8 & set(machine.isa) else "no int8 dot products: measure before choosing int8",
        ),
        *(("advice", line) for line in diagnosis.advice),
    ]
    return [f"{name:<13} {text}" for name, text in rows]


def _providers() -> list[str]:
    try:
        return available_providers()
    except ProviderUnavailable:
        return []


def _advice(versions: dict[str, str], machine: Machine) -> list[str]:
    advice = []
    if not {"onnxruntime", "onnxruntime-gpu"} & versions.keys():
        advice.append("onnxruntime is not installed: pip install 'onnxpipe[cpu]', or 'onnxpipe[gpu]' for CUDA")
    if {"onnxruntime", "onnxruntime-gpu"} <= versions.keys():
        advice.append(
            "onnxruntime and onnxruntime-gpu overwrite each other: pip uninstall -y onnxruntime onnxruntime-gpu, then "
            "pip install 'onnxpipe[gpu]' or 'onnxpipe[cpu]'"
        )
    if machine.quota_cpus is not None and machine.quota_cpus < 1:
        advice.append(
            f"the CPU quota of {machine.quota_cpus:g} throttles even one thread: raise it to 1 for steady latency"
        )
    return advice


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
