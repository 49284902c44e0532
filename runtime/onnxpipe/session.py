"""One ONNX Runtime session: the providers it runs on, its options, and a run. The only door to onnxruntime."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from onnxpipe.errors import BundleError, ProviderUnavailable
from onnxpipe.machine import inspect_machine

Array = NDArray[Any]  # any dtype: each graph has its own
Arrays = dict[str, Array]

_SUFFIX = "ExecutionProvider"
CPU = f"CPU{_SUFFIX}"
# Measured: longer brings a decoder nothing, but beside busy neighbours the spinning thread is the one that has to wait.
_SPIN_US = "10"
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
    in the order the kernels read; `optimized` says that `file` is such a graph. Memory patterns are off because every
    sequence length is a shape of its own. Raises ProviderUnavailable when a requested provider is not there or did not
    take the graph, BundleError when the file is no graph onnxruntime reads.
    """

    def __init__(
        self,
        file: Path,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
        *,
        steps: bool = False,
        optimized: bool = False,
        save_to: tuple[Path, str] | None = None,
    ) -> None:
        self.providers = resolve_providers(providers)
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
        if optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        if save_to is not None:
            graph, weights = save_to
            options.optimized_model_filepath = str(graph)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
            options.add_session_config_entry("session.save_external_prepacked_constant_initializers", "1")
        try:
            self._session = ort.InferenceSession(str(file), options, providers=self.providers)
        except Exception as error:  # onnxruntime's own exception classes have no public base
            raise BundleError(f"{file}: onnxruntime {ort.__version__} cannot load it ({error})") from error
        loaded = self._session.get_providers()
        if missing := [name for name in self.providers if name not in loaded]:
            raise ProviderUnavailable(f"{missing[0]} was requested but did not load; running are {', '.join(loaded)}")
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))
        self._output_names = [port.name for port in self.outputs]

    @property
    def device(self) -> str:
        """Where the graph runs: "cpu" or "gpu"."""
        return "cpu" if self.providers == [CPU] else "gpu"

    @property
    def threads(self) -> int:
        """How many threads share one run."""
        return self._threads

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """Every output by name for one batch of inputs."""
        return dict(zip(self._output_names, self._session.run(self._output_names, dict(feeds)), strict=True))


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

    Raises ProviderUnavailable for one that this onnxruntime does not have: never a silent fall-back.
    """
    available = {_short(name): name for name in available_providers()}
    names = []
    for name in requested or ["cpu"]:
        if _short(name) not in available:
            raise ProviderUnavailable(
                f"provider {name!r} is not available here; available: {', '.join(available)}. "
                "GPU providers come with `pip install onnxpipe[gpu]` in place of [cpu]"
            )
        names.append(available[_short(name)])
    return list(dict.fromkeys(names))


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


def _short(name: str) -> str:
    return name.lower().removesuffix(_SUFFIX.lower())


def _port(node: Any) -> Port:  # onnxruntime's NodeArg has no types
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return Port(node.name, _DTYPES.get(dtype, dtype), tuple(node.shape))
