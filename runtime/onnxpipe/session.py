"""One ONNX Runtime session: the providers it runs on, its options, and a run. The only door to onnxruntime."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from onnxpipe.errors import BundleError, InvalidInput, ProviderUnavailable
from onnxpipe.machine import inspect_machine

Array = NDArray[Any]  # any dtype: each graph has its own
Arrays = dict[str, Array]
Level = Literal["all", "extended", "basic", "disabled"]  # how much onnxruntime rewrites a graph

# onnxruntime's wheels report to their maker (1.31.1 for Linux: a thread, an identifier in ~/.cache, uploads) unless
# this is set before they are imported, here or elsewhere; who wants that sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_SUFFIX = "ExecutionProvider"
CPU = f"CPU{_SUFFIX}"
# providers whose kernels run on the CPU too
_ON_CPU = {CPU, *(f"{name}{_SUFFIX}" for name in ("Xnnpack", "Dnnl", "ACL"))}
# runs where an option of it says
_OPENVINO = f"OpenVINO{_SUFFIX}"
# What takes nearly all of a model's time. A device that leaves it to the CPU does next to nothing; shapes and indices,
# which CUDA leaves there by design, are another matter.
_HEAVY = re.compile(r"MatMul|Gemm|Conv|Attention|LSTM|GRU")
# Measured: longer brings a decoder nothing, but beside busy neighbours the spinning thread is the one that has to wait.
_SPIN_US = "10"
# A graph: two numbers, each added to itself.
_PROBE = (
    b'\x08\t:8\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x04tinyZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04'
    b"\n\x02\x08\x02b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02B\x04\n\x00\x10\x11"
)
_LEVELS: dict[Level, str] = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}
# onnxruntime's spelling where it is not numpy's
_DTYPES = {"float": "float32", "double": "float64", "string": "str"}


class Engine(Protocol):
    """What runs a graph: onnxruntime here, torch when an export is verified."""

    @property
    def device(self) -> str:
        """Where the graph runs: "cpu" or "gpu"."""

    @property
    def threads(self) -> int:
        """How many threads share one run."""

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Every output by name for one batch of inputs."""


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or output of a graph as the file declares it."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Session:
    """A loaded graph. `run` may be called from several threads at once.

    Threads are always set, one inter-op thread, no spinning: an idle session must not burn a core that its neighbours
    need. `steps` says that the graph writes token by token, in short operators with next to nothing between them: its
    threads wait awake that long for the next one, for falling asleep and waking up takes as long as what they do.
    `save_to` is where to write the graph as it is run on this machine, and the name of a file beside it for its weights
    in the order the kernels read; `optimized` says that `file` is such a graph; `level` bounds what is rewritten. With
    `profile`, the beginning of a file's path, what every node does is recorded until `end_profile`. Memory patterns are
    off because every sequence length is a shape of its own. Raises ProviderUnavailable when a requested provider is not
    there or did not take the graph, BundleError when the file is no graph onnxruntime reads.
    """

    def __init__(
        self,
        file: Path,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        *,
        steps: bool = False,
        optimized: bool = False,
        level: Level = "all",
        save_to: tuple[Path, str] | None = None,
        profile: Path | None = None,
    ) -> None:
        requested = _read_providers(providers)
        self.providers = list(requested)
        self._device = _device(requested)
        self._threads = threads or inspect_machine().threads
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False
        if steps:
            options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
        else:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        options.log_severity_level = 3
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        options.graph_optimization_level = getattr(
            ort.GraphOptimizationLevel, _LEVELS["disabled" if optimized else level]
        )
        if save_to is not None:
            graph, weights = save_to
            options.optimized_model_filepath = str(graph)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
            options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
        if self.providers != [CPU]:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        try:
            self._session = _open(str(file), options, requested)
        except ProviderUnavailable:
            raise
        except Exception as error:  # onnxruntime's own exception classes have no public base
            check_providers(providers)
            raise BundleError(f"{file}: onnxruntime {ort.__version__} cannot load it ({error})") from error
        operators = {} if self.providers == [CPU] else _operators(self._session)
        _check_placement(file, self.providers, operators)
        self.placement = {_short(name): sum(counts.values()) for name, counts in operators.items()}
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))
        self._output_names = [port.name for port in self.outputs]

    @property
    def device(self) -> str:
        """Where the graph runs: "cpu", or "gpu" for any other device."""
        return self._device

    @property
    def threads(self) -> int:
        """How many threads share one run."""
        return self._threads

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Every output by name for one batch of inputs."""
        return dict(zip(self._output_names, self._session.run(self._output_names, dict(feeds)), strict=True))

    def end_profile(self) -> Path:
        """The file of what was recorded: a JSON list of events, those of nodes with their operator and provider."""
        return Path(self._session.end_profiling())


class Binding:
    """Runs of a session that read and write arrays where they lie: nothing is copied, and nothing bound twice.

    An array may be an input and an output at once where the graph allows it. Whoever binds one keeps it from then on:
    what the next run is to read is written into it.
    """

    def __init__(self, session: Session) -> None:
        self._session = session._session
        self._io = self._session.io_binding()
        self._bound: list[Any] = []  # onnxruntime's values, which hold the arrays

    def bind(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> None:
        """Take these arrays, contiguous ones, in the place of all before."""
        self._io.clear_binding_inputs()
        self._io.clear_binding_outputs()
        value_of = _onnxruntime().OrtValue.ortvalue_from_numpy
        values = {id(array): value_of(array) for array in (*inputs.values(), *outputs.values())}
        for name, array in inputs.items():
            self._io.bind_ortvalue_input(name, values[id(array)])
        for name, array in outputs.items():
            self._io.bind_ortvalue_output(name, values[id(array)])
        self._bound = list(values.values())

    def run(self) -> None:
        """Fill the outputs."""
        self._session.run_with_iobinding(self._io)


def resolve_providers(requested: Sequence[str] | None) -> list[str]:
    """onnxruntime's names of the requested providers, "cpu" when None; short names ("cuda") in any case are understood.

    Options may follow: "cuda:1" is the second device, "cuda:gpu_mem_limit=2000000000,device_id=1" what onnxruntime
    documents for each provider. Raises ProviderUnavailable for one that this onnxruntime does not have: never a silent
    fall-back. Raises InvalidInput for what is no such option.
    """
    return list(_read_providers(requested))


def check_providers(requested: Sequence[str] | None) -> None:
    """Raise ProviderUnavailable, with the reason, when one of these cannot be loaded on this machine."""
    providers = _read_providers(requested)
    if list(providers) == [CPU]:
        return
    options = _onnxruntime().SessionOptions()
    options.log_severity_level = 3
    try:
        _open(_PROBE, options, providers)
    except ProviderUnavailable:
        raise
    except Exception as error:  # as above
        names = ", ".join(map(_short, providers))
        raise ProviderUnavailable(f"onnxruntime cannot run on {names} here ({error})") from error


def device_of(requested: Sequence[str] | None) -> str:
    """Where requested providers run: "cpu", or "gpu" when one of them has another device. Raises as above."""
    return _device(_read_providers(requested))


def available_providers() -> list[str]:
    """The execution providers of this onnxruntime build."""
    return list(_onnxruntime().get_available_providers())


def onnxruntime_version() -> str:
    """The version of the onnxruntime in use."""
    return str(_onnxruntime().__version__)


def _onnxruntime() -> Any:  # a module without types
    # here, not above: `onnxpipe --help` and `doctor` work without it, and say so where it is missing
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise ProviderUnavailable(
            "onnxruntime is not installed: pip install 'onnxpipe[cpu]', or 'onnxpipe[gpu]' for CUDA, but not both"
        ) from None
    return onnxruntime


def _read_providers(requested: Sequence[str] | None) -> dict[str, dict[str, str]]:
    """The options of each requested provider, by onnxruntime's names."""
    available = {_short(name): name for name in available_providers()}
    read: dict[str, dict[str, str]] = {}
    for given in requested or ["cpu"]:
        name, _, told = given.partition(":")
        if _short(name) not in available:
            raise ProviderUnavailable(
                f"provider {name!r} is not available here; available: {', '.join(available)}. "
                "GPU providers come with `pip install onnxpipe[gpu]` in place of [cpu]"
            )
        provider, options = available[_short(name)], _read_options(given, told)
        if read.setdefault(provider, options) != options:
            raise InvalidInput(f"provider {name!r} is given twice with different options: {given!r} is the second")
    return read


def _read_options(given: str, told: str) -> dict[str, str]:
    if told.isdecimal():
        return {"device_id": told}
    options = dict(part.partition("=")[::2] for part in told.split(",") if part)
    if not all(name and value for name, value in options.items()):
        raise InvalidInput(f"expected a provider such as cuda, cuda:1 or cuda:NAME=VALUE,NAME=VALUE, given {given!r}")
    return options


def _device(providers: Mapping[str, Mapping[str, str]]) -> str:
    on_cpu = (
        name in _ON_CPU or (name == _OPENVINO and options.get("device_type", "CPU").upper().startswith("CPU"))
        for name, options in providers.items()
    )
    return "cpu" if all(on_cpu) else "gpu"


def _open(graph: str | bytes, options: Any, providers: Mapping[str, Mapping[str, str]]) -> Any:
    """onnxruntime's session. Raises ProviderUnavailable for a provider that did not load, and onnxruntime's errors."""
    # by default onnxruntime goes on with the CPU after an error of another provider, here and in later runs
    session = _onnxruntime().InferenceSession(
        graph,
        options,
        providers=list(providers),
        provider_options=[dict(one) for one in providers.values()],
        enable_fallback=0,
    )
    loaded = session.get_providers()
    if missing := [name for name in providers if name not in loaded]:
        raise ProviderUnavailable(
            f"{missing[0]} was requested but did not load; running are {', '.join(loaded)}. "
            "onnxruntime's log on standard error says why: a driver or a library that is not there, mostly"
        )
    return session


def _operators(session: Any) -> dict[str, Counter[str]]:
    """How many operators of each type the providers run, by onnxruntime's names."""
    operators: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        operators.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return operators


def _check_placement(file: Path, requested: Sequence[str], operators: Mapping[str, Counter[str]]) -> None:
    if idle := [name for name in requested if name != CPU and name not in operators]:
        raise ProviderUnavailable(
            f"{file}: {_short(idle[0])} was requested but takes none of the graph's operators; running would be "
            f"{', '.join(map(_short, operators))}. Choose another precision or provider"
        )
    left: Mapping[str, int] = {} if CPU in requested else operators.get(CPU, {})
    if heavy := {name: count for name, count in left.items() if _HEAVY.search(name)}:
        told = ", ".join(f"{count} {name}" for name, count in heavy.items())
        raise ProviderUnavailable(
            f"{file}: {_short(requested[0])} was requested but leaves {told} to the CPU. Choose another precision, or "
            "allow it by naming cpu as well"
        )


def _short(name: str) -> str:
    return name.lower().removesuffix(_SUFFIX.lower())


def _port(node: Any) -> Port:  # onnxruntime's NodeArg has no types
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return Port(node.name, _DTYPES.get(dtype, dtype), tuple(node.shape))
