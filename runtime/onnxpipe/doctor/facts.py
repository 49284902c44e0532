"""What is the case on this machine and in this environment: facts only, judged in `findings`."""

import dataclasses
import importlib.metadata
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

from onnxpipe.doctor.nodes import NodeShare
from onnxpipe.errors import ProviderUnavailable
from onnxpipe.hub.door import endpoint, is_offline, reach
from onnxpipe.machine import Machine, inspect_machine
from onnxpipe.session import available_providers
from onnxpipe.version import __version__

_PACKAGES = (
    "numpy",
    "pillow",
    "tokenizers",
    "onnxruntime",
    "onnxruntime-gpu",
    "huggingface_hub",
    "soundfile",
    "jinja2",
    "fastapi",
    "uvicorn",
    "torch",
    "optimum-onnx",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """One precision of a bundle as it was asked to run, and how it did.

    `sizes` are the bytes of the graphs and weights of each precision. `nodes` are empty and `problem` is set where it
    did not run at all, `unavailable` where that is because of the provider. `needs` are packages that its tasks cannot
    do without, by their extra.
    """

    path: str
    precision: str
    sizes: Mapping[str, int]
    providers: tuple[str, ...]
    threads: int | None
    nodes: tuple[NodeShare, ...] = ()
    problem: str | None = None
    unavailable: bool = False
    needs: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """All that findings are made of.

    `problem` says why onnxruntime gives no providers. `hub_problem` says why the hub was not reached; None also when
    nobody asked (`asked_hub`).
    """

    platform: str
    musl: bool
    host_cpus: int
    versions: Mapping[str, str]
    providers: tuple[str, ...]
    problem: str | None
    machine: Machine
    memory_available_bytes: int | None
    endpoint: str
    offline: bool
    asked_hub: bool = False
    hub_problem: str | None = None
    bundle: BundleFacts | None = None


def gather(*, network: bool = False, bundle: BundleFacts | None = None) -> Facts:
    """The facts here and now; nothing leaves the machine unless `network` allows one request to the hub."""
    providers, problem = _providers()
    offline = is_offline()
    asks = network and not offline
    return Facts(
        platform=platform.platform(),
        musl=is_musl(),
        host_cpus=os.cpu_count() or 1,
        versions={"onnxpipe": __version__, "python": platform.python_version()} | installed_versions(_PACKAGES),
        providers=providers,
        problem=problem,
        machine=inspect_machine(),
        memory_available_bytes=memory_available(),
        endpoint=endpoint(),
        offline=offline,
        asked_hub=asks,
        hub_problem=reach() if asks else None,
        bundle=bundle,
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


def is_musl(root: Path = Path("/")) -> bool:
    """Whether this Linux has musl in the place of glibc, as Alpine does."""
    return not platform.libc_ver()[0] and any((root / "lib").glob("ld-musl-*"))


def memory_available(root: Path = Path("/")) -> int | None:
    """Bytes of the machine's memory that a new process could get, None where the system does not tell."""
    try:
        lines = (root / "proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(sizes[0]) * 1024 if sizes else None


def _providers() -> tuple[tuple[str, ...], str | None]:
    try:
        return tuple(available_providers()), None
    except (ProviderUnavailable, ImportError) as error:  # the library itself may lack one of the system's
        return (), str(error).splitlines()[0]
