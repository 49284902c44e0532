"""A task over a model: preprocess -> infer -> postprocess.

A task subclasses `Pipeline[I, P, R]` (one input, its parameters, one result) and writes `preprocess`, which turns an
input into rows and says how their outputs become the result. The server reads the three types off the class, so they
are the task's contract: request validation, error messages and OpenAPI come from them.
"""

import dataclasses
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin, overload

from onnxpipe.batching import Row, iterate_rows
from onnxpipe.bundle import Bundle, Golden, Graph, Variant
from onnxpipe.errors import UnsupportedModel
from onnxpipe.media import Media
from onnxpipe.records import Converter, FieldError, Record, converter, read
from onnxpipe.session import Arrays, Engine

if TYPE_CHECKING:
    from onnxpipe.text.tokenizer import Tokenizer

I = TypeVar("I")  # noqa: E741 - inputs, parameters, results: the letters of the contract
P = TypeVar("P", bound=Record)
R = TypeVar("R")

# Rows of one call that are in memory at once (an input's rows stay together, however many); sorting by length happens
# inside such a window.
WINDOW = 512

# Bytes of rows that are in memory at once, reached first by pictures and sound.
WINDOW_BYTES = 2**26


def run_directly(model: "Model", graph: str, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
    """Each row's index and outputs: runs in this thread, of these rows alone."""
    return iterate_rows(model.sessions[graph], model.graph(graph), rows, together=model.variant.batch_invariant)


def carry_on() -> None:
    """Nothing ends work that nobody watches."""


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A bundle with one precision of it loaded; pipelines of several tasks may share it.

    `runner` decides when rows run, and beside which others; their outputs do not depend on it. Work that takes many
    steps calls `check` between them, which raises when nobody waits for it any more.
    """

    bundle: Bundle
    precision: str
    variant: Variant
    sessions: Mapping[str, Engine]
    runner: Callable[["Model", str, Sequence[Row]], Iterator[tuple[int, Arrays]]] = run_directly
    check: Callable[[], None] = carry_on

    @functools.cached_property
    def tokenizer(self) -> "Tokenizer":
        """The bundle's tokenizer. Raises UnsupportedModel when it has none."""
        # here, not above: vision and audio models must not pay for loading the tokenizers library
        from onnxpipe.text.tokenizer import Tokenizer

        text = self.bundle.manifest.text
        if text is None:
            raise UnsupportedModel(f"{self.bundle.manifest.id} has no tokenizer, so it cannot read text")
        return Tokenizer(self.bundle.file(text.tokenizer), text)

    @property
    def device(self) -> str:
        """Where it runs: "gpu" if any of its graphs does, else "cpu"."""
        return "gpu" if any(session.device == "gpu" for session in self.sessions.values()) else "cpu"

    @property
    def golden(self) -> list[Golden]:
        """The bundle's golden requests for the precision that is loaded."""
        return [golden for golden in self.bundle.manifest.golden if self.precision in golden.tolerance]

    def graph(self, name: str = "model") -> Graph:
        """What the named graph takes and gives."""
        return self.bundle.manifest.graphs[name]

    def run(self, rows: Sequence[Row], graph: str = "model") -> Iterator[tuple[int, Arrays]]:
        """Each row's index and outputs, run through the named graph together or, where that changes them, singly."""
        return self.runner(self, graph, rows)


@dataclasses.dataclass(frozen=True)
class Work(Generic[R]):
    """One input, ready to run: `finish` makes the result from the outputs of `rows`, in their order."""

    rows: Sequence[Row]
    finish: Callable[[list[Arrays]], R]
    truncated_tokens: int = 0
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class WireForm:
    """Another form of a task's HTTP result, for clients that expect it: product in their `user-agent` -> since version.

    `convert` makes it from a result; its return annotation documents it.
    """

    convert: Callable[[Any], object]  # from the R of the pipeline that declares it
    clients: Mapping[str, tuple[int, ...]]


@dataclasses.dataclass
class Answer(Generic[R]):
    """The results of one call, one per input, with what was noticed and the time each stage took."""

    results: list[R] = dataclasses.field(default_factory=list)
    truncated_tokens: int = 0
    warnings: list[str] = dataclasses.field(default_factory=list)
    elements: int = 0
    preprocess_ms: float = 0.0
    infer_ms: float = 0.0
    postprocess_ms: float = 0.0


class Pipeline(ABC, Generic[I, P, R]):
    """A task over a loaded model. Safe to call from several threads.

    `nested` says that the classic HTTP answer to a single input is a list of one result; `joined`, that results are
    lists, and the answer to several inputs is a single list when each result has one item. `tasks_form` is the form
    that newer documents of the API (huggingface.js `tasks`) give a result, where that differs.
    """

    nested: ClassVar[bool] = False
    joined: ClassVar[bool] = False
    tasks_form: ClassVar[WireForm | None] = None

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    @functools.cache
    def types(cls) -> tuple[Any, type[P], Any]:  # annotations of one input and one result: classes or unions
        """The input, parameters and result types, as the class line states them."""
        for base in getattr(cls, "__orig_bases__", ()):
            if isinstance(origin := get_origin(base), type) and issubclass(origin, Pipeline):
                return cast("tuple[Any, type[P], Any]", get_args(base))
        raise TypeError(f"{cls.__name__} does not name its types: class X(Pipeline[I, P, R])")

    @classmethod
    @functools.cache
    def _converter(cls) -> Converter:
        """What checks one input."""
        return converter(cls.types()[0])

    @classmethod
    def is_single(cls, inputs: object) -> bool:
        """Whether what was given is one input, not several: anything but a list."""
        return not isinstance(inputs, list)

    @classmethod
    def media_kind(cls) -> str | None:
        """What kind of file one input is, such as "image"; None when it is text or a record."""
        annotation = cls.types()[0]
        return annotation.kind if isinstance(annotation, type) and issubclass(annotation, Media) else None

    @abstractmethod
    def preprocess(self, inputs: I, parameters: P) -> Work[R]:
        """Rows for one checked input, and how to finish. Raises InvalidInput."""

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        """Each row's index and outputs, in any order, as they come."""
        return self.model.run(rows)

    @overload
    def __call__(self, inputs: list[I], **parameters: object) -> list[R]: ...
    @overload
    def __call__(self, inputs: I, **parameters: object) -> R: ...
    def __call__(self, inputs: I | list[I], **parameters: object) -> R | list[R]:
        """The result for one input, or a list of them for a list.

        Keyword parameters are the task's; an unknown name, a wrong type or a value out of range raises InvalidInput.
        """
        checked = read(self.types()[1], parameters)
        if self.is_single(inputs):
            return self.run(self.check_inputs([inputs]), checked).results[0]
        return self.run(self.check_inputs(cast("list[I]", inputs)), checked).results

    def check_inputs(self, inputs: Sequence[object]) -> list[I]:
        """The inputs as the task wants them, mappings read into records. Raises InvalidInput naming the first wrong."""
        if not inputs:
            raise FieldError("inputs", "expected at least one input, given an empty list")
        convert, checked = self._converter(), []
        for index, item in enumerate(inputs):
            try:
                checked.append(convert(item))
            except FieldError as error:
                raise error.inside(f"inputs[{index}]" if len(inputs) > 1 else "inputs") from None
        return checked

    def run(self, inputs: Sequence[I], parameters: P) -> Answer[R]:
        """All results with timings. In windows, so that memory does not grow with the number of inputs."""
        answer: Answer[R] = Answer()
        begin = time.perf_counter()
        for works in self._windows(inputs, parameters):
            answer.preprocess_ms += 1e3 * (time.perf_counter() - begin)
            self._run_window(works, answer)
            begin = time.perf_counter()
        return answer

    def _windows(self, inputs: Sequence[I], parameters: P) -> Iterator[list[Work[R]]]:
        works: list[Work[R]] = []
        rows = size = 0
        for item in inputs:
            works.append(self.preprocess(item, parameters))
            rows += len(works[-1].rows)
            size += sum(array.nbytes for row in works[-1].rows for array in row.values())
            if rows >= WINDOW or size >= WINDOW_BYTES:
                yield works
                works, rows, size = [], 0, 0
        if works:
            yield works

    def _run_window(self, works: Sequence[Work[R]], answer: Answer[R]) -> None:
        """Add the results of some works, each made as soon as its rows have run: outputs may be far larger."""
        rows = [row for work in works for row in work.rows]
        owners = [number for number, work in enumerate(works) for _ in work.rows]
        waiting: list[dict[int, Arrays]] = [{} for _ in works]
        begin, finishing = time.perf_counter(), 0.0
        results = {number: work.finish([]) for number, work in enumerate(works) if not work.rows}
        for index, outputs in self.infer(rows):
            number = owners[index]
            waiting[number][index] = outputs
            if len(waiting[number]) == len(works[number].rows):
                complete = time.perf_counter()
                results[number] = works[number].finish([part for _, part in sorted(waiting[number].items())])
                waiting[number].clear()
                finishing += time.perf_counter() - complete
        answer.results.extend(results[number] for number in range(len(works)))
        for work in works:
            answer.truncated_tokens += work.truncated_tokens
            answer.warnings.extend(warning for warning in work.warnings if warning not in answer.warnings)
        answer.elements += sum(next(iter(row.values())).size for row in rows)
        answer.infer_ms += 1e3 * (time.perf_counter() - begin - finishing)
        answer.postprocess_ms += 1e3 * finishing


AnyPipeline = Pipeline[Any, Any, Any]  # which task it is, and so its types, is known only from the bundle
