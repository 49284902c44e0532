"""What facts mean for whoever runs onnxpipe here: each finding with a command that mends it. Pure functions."""

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Literal

from onnxpipe.doctor.facts import BundleFacts, Facts

Severity = Literal["broken", "warning", "note"]

# Releases with known faults: 1.20.0, 1.24.* (symlinked hub caches, memory growth), 1.25.*, 1.26.0; and the oldest that
# onnxpipe is made for.
_BAD = re.compile(r"1\.(20\.0|24\.\d+|25\.\d+|26\.0)([^.\d].*)?$")
_OLDEST = (1, 27)
# instructions that multiply and add four bytes at once, per kind of processor
DOT_PRODUCTS = {"amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm"}
# precisions whose products are of integers
_INTEGER = ("int8", "int8-static", "uint8", "q8")
_WHEELS = ("onnxruntime", "onnxruntime-gpu")
_SWAP_WHEELS = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'onnxpipe[gpu]'"
# part of the memory that weights may take: activations, the process and what prepares the weights want the rest
_ROOM = 0.6
_LEAST_BYTES = 192 * 2**20
# below this part of a graph's time, nodes beside the requested provider are the usual shapes and indices
_STRAY_TIME = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something worth changing. `broken` does not work at all, `warning` works badly, `note` is good to know."""

    severity: Severity
    text: str
    remedy: str


def judge(facts: Facts) -> tuple[Finding, ...]:
    """The findings, the gravest first."""
    found = [finding for rule in _RULES for finding in rule(facts)]
    order: tuple[Severity, ...] = ("broken", "warning", "note")
    return tuple(sorted(found, key=lambda finding: order.index(finding.severity)))


def _platform(facts: Facts) -> Iterator[Finding]:
    if facts.problem is None:
        return  # somebody built it for this machine
    if facts.musl:
        yield _broken(
            "this Linux has musl (Alpine), for which there is no onnxruntime wheel; take an image with glibc",
            "docker run -it python:3.12-slim sh -c \"pip install 'onnxpipe[cpu]'\"",
        )
    if facts.machine.architecture.startswith(("armv6", "armv7")):
        yield _broken(
            f"there is no onnxruntime wheel for 32-bit ARM ({facts.machine.architecture}); take a 64-bit system",
            "docker run -it --platform linux/arm64 python:3.12-slim",
        )


def _wheels(facts: Facts) -> Iterator[Finding]:
    installed = [name for name in _WHEELS if name in facts.versions]
    if not installed:
        yield _broken(
            "onnxruntime is not installed; 'onnxpipe[gpu]' in the place of [cpu] is for CUDA",
            "pip install 'onnxpipe[cpu]'",
        )
    elif len(installed) == 2:
        yield _broken(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other; take 'onnxpipe[cpu]' or "
            "'onnxpipe[gpu]'",
            _SWAP_WHEELS,
        )
    elif facts.problem is not None:
        yield _broken(
            f"{installed[0]} is installed but cannot be imported ({facts.problem})",
            f"pip install --force-reinstall {installed[0]}",
        )
    for name in installed:
        yield from _version(name, facts.versions[name])
    if installed == ["onnxruntime-gpu"] and facts.providers and "CUDAExecutionProvider" not in facts.providers:
        yield _warning(
            "onnxruntime-gpu is installed but has no CUDAExecutionProvider: everything runs on the CPU",
            "pip install --force-reinstall 'onnxpipe[gpu]'",
        )


def _version(name: str, version: str) -> Iterator[Finding]:
    mend = f"pip install -U '{name}>={_OLDEST[0]}.{_OLDEST[1]}'"
    if _BAD.match(version):
        yield _broken(f"{name} {version} has known faults (so have 1.20.0, 1.24.*, 1.25.* and 1.26.0)", mend)
    elif (numbers := tuple(map(int, re.findall(r"\d+", version)[:2]))) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        yield _warning(f"{name} {'.'.join(map(str, numbers))} is older than {oldest}, which onnxpipe is made for", mend)


def _threads(facts: Facts) -> Iterator[Finding]:
    machine, bundle = facts.machine, facts.bundle
    quota = machine.quota_cpus
    if quota is not None and quota < 1:
        yield _warning(
            f"the CPU quota of {quota:g} throttles even one thread; one CPU gives steady latency",
            "docker update --cpus 1 CONTAINER",
        )
    elif quota is not None and quota < machine.threads:
        yield _note(
            f"a CPU quota of {quota:g} is less than the {machine.threads} threads it is rounded up to: all wait at the "
            "end of each period",
            f"docker update --cpus {machine.threads} CONTAINER",
        )
    if machine.cpu_set < facts.host_cpus:
        every = f"0-{facts.host_cpus - 1}"
        yield _note(
            f"this process may run on {machine.cpu_set} of {facts.host_cpus} CPUs (affinity or cpuset)",
            f"taskset -cp {every} $$  # or: docker update --cpuset-cpus {every} CONTAINER",
        )
    if bundle is not None and bundle.threads is not None and bundle.threads > machine.threads:
        yield _warning(
            f"{bundle.threads} threads were asked for, but {machine.threads} is {machine.reason}: the others only wait",
            f"onnxpipe run {bundle.path} --threads {machine.threads}",
        )


def _instructions(facts: Facts) -> Iterator[Finding]:
    machine, bundle = facts.machine, facts.bundle
    if machine.architecture in ("x86_64", "AMD64") and machine.isa and "avx2" not in machine.isa:
        yield _warning(
            "this processor shows no AVX2, so every product runs several times slower; virtual machines often hide it",
            "qemu-system-x86_64 -cpu host",
        )
    if bundle is None or bundle.precision not in _INTEGER or DOT_PRODUCTS & set(machine.isa):
        return
    others = [name for name in bundle.sizes if name not in _INTEGER]
    yield _warning(
        f"{bundle.precision} was asked for, but this processor has no int8 dot products (VNNI, AMX, dotprod, i8mm): "
        "fp32 may be as fast; measure both",
        f"onnxpipe run {bundle.path} --precision {others[0] if others else bundle.precision}",
    )


def _memory(facts: Facts) -> Iterator[Finding]:
    machine, bundle = facts.machine, facts.bundle
    limit = machine.memory_limit_bytes
    if bundle is None:
        if limit is not None and limit < _LEAST_BYTES:
            yield _warning(
                f"a memory limit of {_mib(limit)} hardly holds the libraries, let alone a model",
                "docker update --memory 1g --memory-swap 1g CONTAINER",
            )
        return
    size = bundle.sizes[bundle.precision]
    if limit is not None and size > _ROOM * limit:
        wanted = _mib(int(size / _ROOM)).replace(" MiB", "m")
        yield (_broken if size > limit else _warning)(
            f"{bundle.precision} has {_mib(size)} of weights under a memory limit of {_mib(limit)}",
            f"docker update --memory {wanted} --memory-swap {wanted} CONTAINER",
        )
    elif facts.memory_available_bytes is not None and size > _ROOM * facts.memory_available_bytes:
        smallest = min(bundle.sizes, key=lambda name: bundle.sizes[name])
        yield _warning(
            f"{bundle.precision} has {_mib(size)} of weights, and {_mib(facts.memory_available_bytes)} of memory are "
            "free",
            f"onnxpipe run {bundle.path} --precision {smallest}",
        )


def _bundle(facts: Facts) -> Iterator[Finding]:
    bundle = facts.bundle
    if bundle is None:
        return
    for package, extra in bundle.needs.items():
        if package not in facts.versions:
            yield _broken(f"{bundle.path} needs {package}, which is not installed", f"pip install 'onnxpipe[{extra}]'")
    if bundle.problem is not None and not any(package not in facts.versions for package in bundle.needs):
        remedy = f"onnxpipe inspect {bundle.path} --verify"
        if bundle.unavailable:
            gpu = "onnxruntime-gpu" in facts.versions
            remedy = "nvidia-smi  # is there a GPU, and a driver?" if gpu else _SWAP_WHEELS
        yield _broken(f"{bundle.path} does not run: {bundle.problem}", remedy)
    yield from _strays(bundle)


def _strays(bundle: BundleFacts) -> Iterator[Finding]:
    """Nodes of each graph that another provider than the first requested one runs."""
    if not bundle.providers:
        return
    wanted = bundle.providers[0]
    for graph in dict.fromkeys(share.graph for share in bundle.nodes):
        shares = [share for share in bundle.nodes if share.graph == graph]
        strays = [share for share in shares if share.provider != wanted]
        count, time = sum(share.nodes for share in strays), sum(share.time_share for share in strays)
        if not strays:
            continue
        where = ", ".join(share.provider for share in strays)
        if len(strays) == len(shares):
            yield _broken(
                f"{wanted} was asked for, but runs no node of graph {graph!r}: all are on {where}",
                f"onnxpipe doctor {bundle.path} --provider cpu",
            )
            continue
        operators = sorted({name for share in strays for name in share.operators})
        yield (_warning if time > _STRAY_TIME else _note)(
            f"{count} of {sum(share.nodes for share in shares)} nodes of graph {graph!r}, {time:.0%} of its time, run "
            f"on {where} and not on {wanted}: {', '.join(operators[:8])}{' ...' if len(operators) > 8 else ''}",
            f"onnxpipe doctor {bundle.path} --provider cpu  # and compare the times",
        )


def _hub(facts: Facts) -> Iterator[Finding]:
    if facts.offline:
        yield _note(
            "HF_HUB_OFFLINE is set: `onnxpipe pull` and `export` take only what is in the hub's cache",
            "unset HF_HUB_OFFLINE",
        )
    elif facts.hub_problem is not None:
        yield _broken(
            f"{facts.endpoint} cannot be reached ({facts.hub_problem}); behind a proxy, or with a mirror of the hub "
            "(HF_ENDPOINT), say where it is",
            "export HTTPS_PROXY=http://PROXY:PORT",
        )


_RULES: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _platform,
    _wheels,
    _threads,
    _instructions,
    _memory,
    _bundle,
    _hub,
)


def _broken(text: str, remedy: str) -> Finding:
    return Finding(severity="broken", text=text, remedy=remedy)


def _warning(text: str, remedy: str) -> Finding:
    return Finding(severity="warning", text=text, remedy=remedy)


def _note(text: str, remedy: str) -> Finding:
    return Finding(severity="note", text=text, remedy=remedy)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
