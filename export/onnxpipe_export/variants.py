"""Each requested precision made, measured beside torch, and kept or refused."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onnxpipe.bundle import SUFFIXES, Bundle, Manifest, Variant
from onnxpipe.errors import UnsupportedModel
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.session import Engine, Session
from onnxpipe_export.calibration import Calibration
from onnxpipe_export.figures import Figures, problems
from onnxpipe_export.generation.precisions import BITS, quantize_graphs
from onnxpipe_export.progress import Progress
from onnxpipe_export.quantize import QUANTIZERS, quantize
from onnxpipe_export.recipe import Backend, Recipe
from onnxpipe_export.static import Rows
from onnxpipe_export.token_verify import TokenVerifier
from onnxpipe_export.verify import Verifier

PRECISIONS = tuple(dict.fromkeys(("fp32", *QUANTIZERS, *BITS)))
_VERIFIERS: Mapping[Backend, Callable[[Model, Recipe], Verifier | TokenVerifier]] = {
    "optimum": Verifier,
    "generation": TokenVerifier,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one precision; `problems` is empty when it passed and is in the bundle.

    `notes` tell what could make it better.
    """

    precision: str
    size_bytes: int
    figures: Figures
    batch_invariant: bool
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check_precisions(precisions: Sequence[str]) -> None:
    """Raise UnsupportedModel for a precision that cannot be made, or when there is none."""
    known = ", ".join(PRECISIONS)
    if unknown := [name for name in precisions if name not in PRECISIONS]:
        raise UnsupportedModel(f"cannot make precision {unknown[0]!r}; precisions: {known}")
    if not precisions:
        raise UnsupportedModel(f"no precision requested; precisions: {known}")


def check_recipe(precisions: Sequence[str], recipe: Recipe) -> None:
    """Raise UnsupportedModel for a precision that models of a task are not made in."""
    if other := [name for name in precisions if name not in recipe.tolerance]:
        raise UnsupportedModel(
            f"models for {recipe.task} are not made in {other[0]!r}; their precisions: {', '.join(recipe.tolerance)}"
        )


def stage_count(precisions: Sequence[str]) -> int:
    """How many stages of progress `make_variants` shows."""
    return 1 + len(precisions) + sum(precision != "fp32" for precision in precisions)


def candidate_model(folder: Path, draft: Manifest, precision: str, engines: Mapping[str, Engine]) -> Model:
    """The unfinished bundle with any engines in the place of its graphs, rows run alone."""
    variant = Variant(files={}, batch_invariant=False, measured={}, tolerance={})
    return Model(Bundle(folder, draft, digest=""), precision, variant, engines)


def graph_sessions(folder: Path, files: Mapping[str, str]) -> dict[str, Session]:
    """Sessions of the graphs whose files, in `folder`, a variant names."""
    return {name: Session(folder / file) for name, file in files.items()}


def make_variants(
    folder: Path,
    draft: Manifest,
    reference: Model,
    recipe: Recipe,
    precisions: Sequence[str],
    calibration: Calibration | None,
    progress: Progress,
) -> tuple[list[Outcome], dict[str, Variant]]:
    """Outcomes of all precisions, and the variants that passed, whose files are left in `folder`."""
    verifier = _VERIFIERS[recipe.exporter](reference, recipe)
    with progress.stage("reference answers", verifier.rows) as advance:
        verifier.ask_reference(advance)
    rows = None if calibration is None else functools.partial(calibration.rows, make_pipeline(reference), recipe)
    outcomes: list[Outcome] = []
    variants: dict[str, Variant] = {}
    for precision in precisions:
        files = _files(draft, precision)
        made: Figures = {}
        if precision != "fp32":
            with progress.stage(f"quantize {precision}"):
                made = _quantize(folder, draft, recipe, precision, rows)
        with progress.stage(f"verify {precision}", verifier.steps) as advance:
            candidate = candidate_model(folder, draft, precision, graph_sessions(folder, files))
            figures, invariant = verifier.measure(candidate, advance)
        parts = [part for file in files.values() for part in _parts(folder / file)]
        tolerance = recipe.tolerance[precision]
        outcome = Outcome(
            precision=precision,
            size_bytes=sum(part.stat().st_size for part in parts),
            figures=figures | made,
            batch_invariant=invariant,
            problems=tuple(problems(figures, tolerance)),
            notes=_notes(made, calibration),
        )
        outcomes.append(outcome)
        if not outcome.problems:
            variants[precision] = Variant(
                files=files,
                external_data=tuple(sorted({_relative(part, folder) for part in parts} - set(files.values()))),
                batch_invariant=invariant,
                measured=outcome.figures,
                tolerance=tolerance,
            )
    for precision in PRECISIONS:
        if precision not in variants:
            for file in _files(draft, precision).values():
                for part in _parts(folder / file):
                    part.unlink(missing_ok=True)
    return outcomes, variants


def _files(draft: Manifest, precision: str) -> dict[str, str]:
    """The file of each graph in a precision, by the graph's name."""
    return {name: f"onnx/{name}{SUFFIXES[precision]}.onnx" for name in draft.graphs}


def _quantize(folder: Path, draft: Manifest, recipe: Recipe, precision: str, rows: Rows | None) -> Figures:
    """Write a precision's graphs from those in fp32; what was made of them, over all."""
    sources, targets = (
        {name: folder / file for name, file in _files(draft, which).items()} for which in ("fp32", precision)
    )
    if recipe.exporter == "generation":
        return {"integer_operators": float(quantize_graphs(sources, targets, precision))}
    made: Figures = {}
    for name, source in sources.items():
        found = quantize(source, targets[name], precision, float_narrowing=recipe.float_narrowing, rows=rows)
        made = {key: made.get(key, 0.0) + number for key, number in found.items()}
    return made


def _notes(made: Figures, calibration: Calibration | None) -> tuple[str, ...]:
    if calibration is None or not calibration.drawn or "calibration_rows" not in made:
        return ()
    return ("calibrated on drawn pictures; some of the kind the model is for are better: --calibration FOLDER",)


def _parts(file: Path) -> list[Path]:
    """A graph file and the files its weights overflow into, which are named after it."""
    return [file, *sorted(file.parent.glob(f"{file.name}?*"))]


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
