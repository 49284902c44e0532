"""A task over a model: preprocess -> infer -> postprocess.

A task subclasses `Pipeline[I, P, R]` (one input, its parameters, one result) and writes `preprocess`, which turns an
input into rows and says how their outputs become the result. The server reads the three types off the class, so they
are the task's contract: request validation, error messages and OpenAPI come from them.
"""

import dataclasses
import functools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin, overload

from onnxpipe.batching import Row, run_rows
from onnxpipe.bundle import Bundle, Graph, Variant
from onnxpipe.errors import UnsupportedModel
from onnxpipe.records import FieldError, Record, convert, read
from onnxpipe.session import Arrays, Engine

if TYPE_CHECKING:
    from onnxpipe.text.tokenizer import Tokenizer

I = TypeVar("I")  # noqa: E741 - inputs, parameters, results: the letters of the contract
P = TypeVar("P", bound=Record)
R = TypeVar("R")

# Inputs of one call that are in memory as rows and outputs at once; sorting by length happens inside such a window.
WINDOW = 512


@dataclasses.dataclass(frozen=True)
class Model:
    """A bundle with one precision of it loaded; pipelines of several tasks may share it."""

    bundle: Bundle
    precision: str
    variant: Variant
    sessions: Mapping[str, Engine]

    @functools.cached_property
    def tokenizer(self) -> "Tokenizer":
        """The bundle's tokenizer. Raises UnsupportedModel when it has none."""
        # here, not above: vision and audio models must not pay for loading the tokenizers library
        from onnxpipe.text.tokenizer import Tokenizer

        text = self.bundle.manifest.text
        if text is None:
            raise UnsupportedModel(f"{self.bundle.manifest.id} has no tokenizer, so it cannot read text")
        return Tokenizer(self.bundle.file(text.tokenizer), text)

    def graph(self, name: str = "model") -> Graph:
        """What the named graph takes and gives."""
        return self.bundle.manifest.graphs[name]

    def run(self, rows: Sequence[Row], graph: str = "model") -> list[Arrays]:
        """Outputs of each row, run through the named graph together or, where that would change them, one by one."""
        return run_rows(self.sessions[graph], self.graph(graph), rows, together=self.variant.batch_invariant)


@dataclasses.dataclass(frozen=True)
class Work(Generic[R]):
    """One input, ready to run: `finish` makes the result from the outputs of `rows`, in their order."""

    rows: Sequence[Row]
    finish: Callable[[list[Arrays]], R]
    truncated_tokens: int = 0
    warnings: tuple[str, ...] = ()


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

    `nested` says that the classic HTTP answer to a single input is a list of one result.
    """

    nested: ClassVar[bool] = False

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    @functools.cache
    def types(cls) -> tuple[Any, type[P], Any]:  # annotations of one input and one result: classes or unions
        """The input, parameters and result types, as the class line states them."""
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Pipeline:
                return cast("tuple[Any, type[P], Any]", get_args(base))
        raise TypeError(f"{cls.__name__} does not name its types: class X(Pipeline[I, P, R])")

    @abstractmethod
    def preprocess(self, inputs: I, parameters: P) -> Work[R]:
        """Rows for one checked input, and how to finish. Raises InvalidInput."""

    def infer(self, rows: Sequence[Row]) -> list[Arrays]:
        """The outputs of each row."""
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
        if isinstance(inputs, list):
            return self.run(self.check_inputs(inputs), checked).results
        return self.run(self.check_inputs([inputs]), checked).results[0]

    def check_inputs(self, inputs: Sequence[object]) -> list[I]:
        """The inputs as the task wants them, mappings read into records. Raises InvalidInput naming the first wrong."""
        if not inputs:
            raise FieldError("inputs", "expected at least one input, given an empty list")
        checked = []
        for index, item in enumerate(inputs):
            try:
                checked.append(convert(self.types()[0], item))
            except FieldError as error:
                raise error.inside(f"inputs[{index}]" if len(inputs) > 1 else "inputs") from None
        return checked

    def run(self, inputs: Sequence[I], parameters: P) -> Answer[R]:
        """All results with timings. In windows, so that memory does not grow with the number of inputs."""
        answer: Answer[R] = Answer()
        for start in range(0, len(inputs), WINDOW):
            self._run_window(inputs[start : start + WINDOW], parameters, answer)
        return answer

    def _run_window(self, inputs: Sequence[I], parameters: P, answer: Answer[R]) -> None:
        begin = time.perf_counter()
        works = [self.preprocess(item, parameters) for item in inputs]
        rows = [row for work in works for row in work.rows]
        prepared = time.perf_counter()
        outputs = iter(self.infer(rows))
        inferred = time.perf_counter()
        for work in works:
            answer.results.append(work.finish([next(outputs) for _ in work.rows]))
            answer.truncated_tokens += work.truncated_tokens
            answer.warnings.extend(warning for warning in work.warnings if warning not in answer.warnings)
        answer.elements += sum(next(iter(row.values())).size for row in rows)
        answer.preprocess_ms += 1e3 * (prepared - begin)
        answer.infer_ms += 1e3 * (inferred - prepared)
        answer.postprocess_ms += 1e3 * (time.perf_counter() - inferred)


AnyPipeline = Pipeline[Any, Any, Any]  # which task it is, and so its types, is known only from the bundle
