"""Each requested precision made, measured beside torch, and kept or refused."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from onnxpipe.bundle import SUFFIXES, Bundle, Manifest, Variant
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import Model
from onnxpipe.session import Engine, Session
from onnxpipe_export.figures import Figures, problems
from onnxpipe_export.progress import Progress
from onnxpipe_export.quantize import QUANTIZERS, quantize
from onnxpipe_export.recipes import Recipe
from onnxpipe_export.verify import Verifier

PRECISIONS = ("fp32", *QUANTIZERS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one precision; `problems` is empty when it passed and is in the bundle."""

    precision: str
    size_bytes: int
    figures: Figures
    batch_invariant: bool
    problems: tuple[str, ...]


def check_precisions(precisions: Sequence[str]) -> None:
    """Raise UnsupportedModel for a precision that cannot be made, or when there is none."""
    known = ", ".join(PRECISIONS)
    if unknown := [name for name in precisions if name not in PRECISIONS]:
        raise UnsupportedModel(f"cannot make precision {unknown[0]!r}; precisions: {known}")
    if not precisions:
        raise UnsupportedModel(f"no precision requested; precisions: {known}")


def stage_count(precisions: Sequence[str]) -> int:
    """How many stages of progress `make_variants` shows."""
    return 1 + len(precisions) + sum(precision != "fp32" for precision in precisions)


def candidate_model(folder: Path, draft: Manifest, precision: str, engine: Engine) -> Model:
    """The unfinished bundle with any engine in the place of its one graph, rows run alone."""
    variant = Variant(files={}, batch_invariant=False, measured={}, tolerance={})
    return Model(Bundle(folder, draft, digest=""), precision, variant, {"model": engine})


def make_variants(
    folder: Path, draft: Manifest, reference: Model, recipe: Recipe, precisions: Sequence[str], progress: Progress
) -> tuple[list[Outcome], dict[str, Variant]]:
    """Outcomes of all precisions, and the variants that passed, whose files are left in `folder`."""
    verifier = Verifier(reference, recipe)
    with progress.stage("reference answers", verifier.rows) as advance:
        verifier.ask_reference(advance)
    base = folder / "onnx" / "model.onnx"
    outcomes: list[Outcome] = []
    variants: dict[str, Variant] = {}
    for precision in precisions:
        file = base.with_stem(f"model{SUFFIXES[precision]}")
        made: Figures = {}
        if precision != "fp32":
            with progress.stage(f"quantize {precision}"):
                made = quantize(base, file, precision, float_narrowing=recipe.float_narrowing)
        with progress.stage(f"verify {precision}", verifier.steps) as advance:
            figures, invariant = verifier.measure(candidate_model(folder, draft, precision, Session(file)), advance)
        tolerance = recipe.tolerance[precision]
        outcome = Outcome(
            precision=precision,
            size_bytes=sum(part.stat().st_size for part in _parts(file)),
            figures=figures | made,
            batch_invariant=invariant,
            problems=tuple(problems(figures, tolerance)),
        )
        outcomes.append(outcome)
        if not outcome.problems:
            variants[precision] = Variant(
                files={"model": _relative(file, folder)},
                external_data=tuple(_relative(part, folder) for part in _parts(file)[1:]),
                batch_invariant=invariant,
                measured=outcome.figures,
                tolerance=tolerance,
            )
    for precision in PRECISIONS:
        if precision not in variants:
            for part in _parts(base.with_stem(f"model{SUFFIXES[precision]}")):
                part.unlink(missing_ok=True)
    return outcomes, variants


def _parts(file: Path) -> list[Path]:
    """A graph file and the files its weights overflow into, which are named after it."""
    return [file, *sorted(file.parent.glob(f"{file.name}?*"))]


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
