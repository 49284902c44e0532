"""The precisions of one repository beside the best of them: measured, kept or refused."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from onnxpipe.bundle import Bundle, Golden, Variant
from onnxpipe.errors import BundleError, OnnxpipeError, UnsupportedModel
from onnxpipe.hub.graphs import difference, takes_batches
from onnxpipe.hub.layout import Layout
from onnxpipe.hub.rows import Row, closeness
from onnxpipe.hub.source import SourceModel
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.records import plain
from onnxpipe.session import Session
from onnxpipe.verification.figures import Figures, problems
from onnxpipe.verification.samples import with_mask
from onnxpipe.verification.verifier import Verifier


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one precision; `problems` is empty when it passed and is in the bundle."""

    precision: str
    size_bytes: int
    figures: Figures
    batch_invariant: bool
    problems: tuple[str, ...]


class Comparison:
    """The precisions of a repository beside the best of them, the `reference`, in a bundle that is not finished.

    Raises UnsupportedModel when the reference does not run on what the runtime makes of samples.
    """

    def __init__(self, row: Row, source: SourceModel, layout: Layout, bundle: Bundle, reference: Session) -> None:
        self._row, self._source, self._layout, self._bundle = row, source, layout, bundle
        self._graph = bundle.manifest.graphs["model"]
        best = next(iter(layout.graphs))
        self._sessions = {best: reference}
        self._golden: dict[str, Golden] = {}
        try:
            self._verifier = Verifier(self._model(best, reference), row)
            self._verifier.ask_reference(lambda: None)
        except OnnxpipeError:
            raise
        except Exception as error:  # onnxruntime's own exception classes have no public base
            raise UnsupportedModel(
                f"{source.name}: its graph in {best} does not run on what the runtime gives it ({_first_line(error)})"
            ) from error

    def measure(self, precision: str) -> Outcome:
        """The figures of a precision beside the best, and where they miss their bounds."""
        figures: Figures = {}
        invariant = False
        try:
            session = self._sessions.pop(precision, None) or open_graph(self._source, self._layout, precision)
            found = difference(self._graph, session)
            if found is None:
                candidate = self._model(precision, session)
                figures, invariant = self._figures(candidate)
                found = "; ".join(problems(figures, self._row.tolerance(precision)))
                self._golden[precision] = self._ask(candidate)
        except BundleError as error:
            found = str(error)
        except Exception as error:  # noqa: BLE001 - as above
            found = f"it does not run here ({_first_line(error)})"
        return Outcome(
            precision=precision,
            size_bytes=self._layout.size_bytes(precision),
            figures=figures,
            batch_invariant=invariant,
            problems=(found,) if found else (),
        )

    def keep(self, outcomes: Sequence[Outcome], folder: Path) -> tuple[dict[str, Variant], tuple[Golden, ...]]:
        """The variants of those that passed, whose files are put into `folder`, and a golden request for each."""
        variants: dict[str, Variant] = {}
        for outcome in outcomes:
            if outcome.problems:
                continue
            graph, *data = (
                _place(self._source.folder / name, folder) for name in self._layout.files(outcome.precision)
            )
            variants[outcome.precision] = Variant(
                files={"model": graph},
                external_data=tuple(data),
                batch_invariant=outcome.batch_invariant,
                measured=outcome.figures,
                tolerance=self._row.tolerance(outcome.precision),
            )
        return variants, tuple(self._golden[precision] for precision in variants)

    def _figures(self, candidate: Model) -> tuple[Figures, bool]:
        """The figures, and whether batches change nothing. Some graphs refuse batches, or certain ones."""
        verifier = self._verifier
        try:
            return verifier.measure(candidate, lambda: None, batches=takes_batches(self._graph))
        except Exception:  # noqa: BLE001 - as above; what fails for a single row too fails again
            return verifier.measure(candidate, lambda: None, batches=False)

    def _model(self, precision: str, session: Session) -> Model:
        variant = Variant(files={}, batch_invariant=False, measured={}, tolerance={})
        return Model(self._bundle, precision, variant, {"model": session})

    def _ask(self, model: Model) -> Golden:
        """A request to the model's own task, with the precision's own answer."""
        row = self._row
        pipeline = make_pipeline(model)
        inputs = with_mask([row.golden or row.samples[0]], model)[0]
        given = row.parameters if row.golden_parameters is None else row.golden_parameters
        parameters = given(pipeline, inputs) if callable(given) else given
        return Golden(
            task=row.task,
            inputs=inputs,
            parameters=parameters,
            expected=plain(pipeline(inputs, **parameters)),
            tolerance={model.precision: row.golden_tolerance[closeness(model.precision)]},
        )


def open_graph(source: SourceModel, layout: Layout, precision: str) -> Session:
    """The session of a precision's graph."""
    return Session(source.folder / layout.graphs[precision]["model"])


def _place(file: Path, folder: Path) -> str:
    """A file's path in the bundle: there it is the very same file where the disk allows it, else a copy."""
    target = folder / "onnx" / file.name
    target.parent.mkdir(exist_ok=True)
    original = file.resolve()  # the hub's cache has links to its files
    try:
        os.link(original, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(original, target)
    return target.relative_to(folder).as_posix()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
