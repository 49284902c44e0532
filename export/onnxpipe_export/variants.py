"""Each requested precision made, measured beside torch, and kept or refused."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onnxpipe.batching import Row
from onnxpipe.bundle import SUFFIXES, Bundle, Manifest, Variant
from onnxpipe.errors import UnsupportedModel
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.session import Engine, Session
from onnxpipe.verification.figures import Figures, problems
from onnxpipe.verification.verifier import Advance, Verifier
from onnxpipe_export.calibration import Calibration
from onnxpipe_export.generation.precisions import quantize_graphs
from onnxpipe_export.half import write_half
from onnxpipe_export.maker import Maker, Options, Plan
from onnxpipe_export.precisions import PRECISIONS
from onnxpipe_export.progress import Progress
from onnxpipe_export.recipe import Backend, Recipe
from onnxpipe_export.sensitivity import Protected, protect
from onnxpipe_export.static import Rows
from onnxpipe_export.token_verify import TokenVerifier

# of the size of fp32: above this a precision is called hardly smaller
_SMALLER = 0.9
_DEFAULT = Options()
_VERIFIERS: Mapping[Backend, Callable[[Model, Recipe], Verifier | TokenVerifier]] = {
    "optimum": Verifier,
    "generation": TokenVerifier,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one precision; `problems` is empty when it passed and is in the bundle.

    `kept` names the products that got another form than the precision's own; `notes` tell what could make it better;
    `speed` is how many times as fast as fp32 it is here, by input, where that was measured.
    """

    precision: str
    size_bytes: int
    figures: Figures
    batch_invariant: bool
    problems: tuple[str, ...]
    kept: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    speed: Mapping[str, float] = dataclasses.field(default_factory=dict)


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
    options: Options = _DEFAULT,
) -> tuple[list[Outcome], dict[str, Variant]]:
    """Outcomes of all precisions, and the variants that passed, whose files are left in `folder`."""
    verifier = _VERIFIERS[recipe.exporter](reference, recipe)
    with progress.stage("reference answers", verifier.rows) as advance:
        verifier.ask_reference(advance)
    bench = _Bench(folder, draft, reference, recipe, verifier, calibration, options)
    outcomes: list[Outcome] = []
    variants: dict[str, Variant] = {}
    for precision in precisions:
        outcome = bench.try_out(precision, progress)
        outcomes.append(outcome)
        files = precision_files(draft, precision)
        if not outcome.problems:
            parts = [part for file in files.values() for part in _parts(folder / file)]
            variants[precision] = Variant(
                files=files,
                external_data=tuple(sorted({_relative(part, folder) for part in parts} - set(files.values()))),
                batch_invariant=outcome.batch_invariant,
                measured=outcome.figures,
                tolerance=recipe.tolerance[precision],
                kept=outcome.kept,
            )
    for precision in PRECISIONS:
        if precision not in variants and precision not in draft.variants:
            for file in precision_files(draft, precision).values():
                for part in _parts(folder / file):
                    part.unlink(missing_ok=True)
    return outcomes, variants


@dataclasses.dataclass(frozen=True)
class _Bench:
    """Where precisions are made and held against the reference."""

    folder: Path
    draft: Manifest
    reference: Model
    recipe: Recipe
    verifier: Verifier | TokenVerifier
    calibration: Calibration | None
    options: Options

    def try_out(self, precision: str, progress: Progress) -> Outcome:
        """Make one and measure it; where its answers are too far off, with products in safer forms."""
        if PRECISIONS[precision].forms and isinstance(self.verifier, Verifier):
            return self._try_forms(precision, progress, self.verifier)
        made: Figures = {}
        try:
            if precision != "fp32":
                with progress.stage(f"quantize {precision}"):
                    made = self._make_whole(precision)
        except UnsupportedModel as error:
            return Outcome(
                precision=precision, size_bytes=0, figures=made, batch_invariant=False, problems=(str(error),)
            )
        with progress.stage(f"verify {precision}", self.verifier.steps) as advance:
            try:
                figures, invariant = self.verifier.measure(self._candidate(precision), advance)
            except Exception:  # onnxruntime's own exception classes have no public base
                if precision != "fp16":
                    raise
                reason = "this onnxruntime cannot run all of it in 16 bits: it lacks kernels for some of its operators"
                return Outcome(
                    precision=precision, size_bytes=0, figures=made, batch_invariant=False, problems=(reason,)
                )
        return self._outcome(precision, figures | made, {}, invariant=invariant)

    def _make_whole(self, precision: str) -> Figures:
        """Graphs that are made in one way; what was made of them."""
        sources, targets = (
            {name: self.folder / file for name, file in precision_files(self.draft, which).items()}
            for which in ("fp32", precision)
        )
        if self.recipe.exporter == "generation":
            blocks = self.options.blocks
            return {"integer_operators": float(quantize_graphs(sources, targets, precision, block_size=blocks.size))}
        for name, source in sources.items():
            write_half(source, targets[name])
        return {}

    def _try_forms(self, precision: str, progress: Progress, verifier: Verifier) -> Outcome:
        source, target = (self.folder / precision_files(self.draft, which)["model"] for which in ("fp32", precision))
        maker = Maker(
            source,
            precision,
            self._inputs(verifier),
            self.options,
            float_narrowing=self.recipe.float_narrowing,
            pictures=self._pictures(),
        )
        figures: Figures = {}
        invariant = False

        def judge(plan: Plan, advance: Advance = lambda: None) -> list[str]:
            nonlocal figures, invariant
            made = maker.make(target, plan)
            figures, invariant = verifier.measure(self._candidate(precision), advance)
            figures = figures | made
            return problems(figures, self.recipe.tolerance[precision])

        def noise(plan: Plan) -> float:
            maker.make(target, {name: plan.get(name, "float") for name in maker.sites})
            return verifier.noise(self._candidate(precision))

        try:
            with progress.stage(f"quantize {precision}"):
                plan = maker.start()
            with progress.stage(f"verify {precision}", verifier.steps) as advance:
                found = judge(plan, advance)
                protected = Protected(plan, found)
                if found:
                    protected = protect(maker, plan, found, noise, judge)
        except UnsupportedModel as error:
            return Outcome(
                precision=precision, size_bytes=0, figures=figures, batch_invariant=False, problems=(str(error),)
            )
        finally:
            maker.close()
        first = maker.forms[0]
        kept = {
            str(node.name): form
            for name, form in protected.plan.items()
            if form != first
            for node in maker.sites[name].products
        }
        return self._outcome(precision, figures, kept, invariant=invariant)

    def _candidate(self, precision: str) -> Model:
        files = precision_files(self.draft, precision)
        return candidate_model(self.folder, self.draft, precision, graph_sessions(self.folder, files))

    def _pictures(self) -> Rows | None:
        if self.calibration is None or "image" not in self.recipe.sections:
            return None
        return functools.partial(self.calibration.rows, make_pipeline(self.reference), self.recipe)

    def _inputs(self, verifier: Verifier) -> list[Row]:
        """Typical rows: those of the calibration, and without pictures those that precisions are compared on, too."""
        given = (
            []
            if self.calibration is None
            else list(self.calibration.rows(make_pipeline(self.reference, self.recipe.verified_as), self.recipe))
        )
        return given if "image" in self.recipe.sections else [*given, *verifier.inputs]

    def _outcome(self, precision: str, figures: Figures, kept: Mapping[str, str], *, invariant: bool) -> Outcome:
        files = precision_files(self.draft, precision)
        size_bytes = sum(part.stat().st_size for file in files.values() for part in _parts(self.folder / file))
        return Outcome(
            precision=precision,
            size_bytes=size_bytes,
            figures=figures,
            batch_invariant=invariant,
            problems=tuple(problems(figures, self.recipe.tolerance[precision])),
            kept=kept,
            notes=(*_notes(figures, self.calibration), *self._size_notes(precision, size_bytes)),
        )

    def _size_notes(self, precision: str, size_bytes: int) -> tuple[str, ...]:
        plain = sum(
            part.stat().st_size
            for file in precision_files(self.draft, "fp32").values()
            for part in _parts(self.folder / file)
        )
        if precision == "fp32" or size_bytes < _SMALLER * plain:
            return ()
        return (f"hardly smaller than fp32: {size_bytes / 1e6:.1f} of {plain / 1e6:.1f} MB",)


def precision_files(draft: Manifest, precision: str) -> dict[str, str]:
    """The file of each graph in a precision, by the graph's name."""
    return {name: f"onnx/{name}{SUFFIXES[precision]}.onnx" for name in draft.graphs}


def _notes(made: Figures, calibration: Calibration | None) -> tuple[str, ...]:
    if calibration is None or not calibration.drawn or "calibration_rows" not in made:
        return ()
    return ("calibrated on drawn pictures; some of the kind the model is for are better: --calibration FOLDER",)


def _parts(file: Path) -> list[Path]:
    """A graph file and the files its weights overflow into, which are named after it."""
    return [file, *sorted(file.parent.glob(f"{file.name}?*"))]


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()
