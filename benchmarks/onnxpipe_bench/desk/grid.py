"""Every way to run a bundle that is worth a try on this machine."""

from collections.abc import Iterator, Sequence

from onnxpipe.bundle import Bundle
from onnxpipe.machine import inspect_machine
from onnxpipe.session import Level, available_providers
from onnxpipe_bench.desk.candidates import Candidate, plan_candidates, size_bytes

_LEVELS: tuple[Level, ...] = ("all", "extended", "basic")
# devices that are tried where this onnxruntime has them
_DEVICES = ("cuda", "rocm", "coreml", "openvino", "dml", "xnnpack")
_LOADED_SHARE = 0.5  # of the memory that sessions may take at once
_SESSION_BYTES = 30_000_000  # of a session beside its weights


def make_grid(
    bundle: Bundle, *, precisions: Sequence[str] = (), threads: Sequence[int] = (), providers: Sequence[str] = ()
) -> list[Candidate]:
    """Precisions by threads and levels on the CPU; on other devices neither matters much. All where none is named."""
    planned = inspect_machine().threads
    counts = threads or sorted({planned, *(count for count in (1, 2, 4, 8, 16, 32) if count < planned)})
    here = {name.removesuffix("ExecutionProvider").lower() for name in available_providers()}
    devices = providers or ["cpu", *(name for name in _DEVICES if name in here)]
    grid: list[Candidate] = []
    for provider in devices:
        on_cpu = provider == "cpu"
        grid += plan_candidates(
            [bundle],
            precisions=precisions,
            threads=counts if on_cpu else [planned],
            providers=[provider],
            levels=_LEVELS if on_cpu else ("all",),
        )
    return grid


def group_by_memory(bundle: Bundle, candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Candidates that fit into memory together, at least one at a time."""
    machine = inspect_machine()
    room = _LOADED_SHARE * (machine.memory_limit_bytes or machine.memory_total_bytes or 2**32)
    group: list[Candidate] = []
    taken = 0.0
    for candidate in candidates:
        size = 1.5 * size_bytes(bundle, candidate.precision) + _SESSION_BYTES
        if group and taken + size > room:
            yield group
            group, taken = [], 0.0
        group.append(candidate)
        taken += size
    if group:
        yield group
