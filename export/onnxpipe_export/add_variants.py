"""Further precisions for a bundle that is there, made of its fp32 graphs: `onnxpipe quantize`, without torch.

fp32 stands for the reference: what is measured of a variant is how far it is from that.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from onnxpipe.bundle import FileEntry, Manifest, Variant, open_bundle, write_manifest
from onnxpipe.errors import BundleError, UnsupportedModel
from onnxpipe.load import load_model
from onnxpipe.pipeline import Model
from onnxpipe.session import onnxruntime_version
from onnxpipe.staging import list_files, staged_folder
from onnxpipe_export.calibration import Calibration, find_calibration, read_inputs
from onnxpipe_export.goldens import golden_requests, reopen
from onnxpipe_export.maker import Options
from onnxpipe_export.products import Blocks
from onnxpipe_export.progress import Progress
from onnxpipe_export.recipe import Recipe
from onnxpipe_export.recipes import recipe_of
from onnxpipe_export.speed import compare_speed
from onnxpipe_export.variants import (
    Outcome,
    candidate_model,
    check_precisions,
    check_recipe,
    graph_sessions,
    make_variants,
    precision_files,
    stage_count,
)

_REFERENCE = "fp32"
_WEIGHTS = ".onnx_data"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Addition:
    """What became of the precisions that were asked for; `written` says whether the bundle has changed."""

    bundle: Path
    id: str
    task: str
    outcomes: tuple[Outcome, ...]
    written: bool

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """Those that did not pass."""
        return tuple(outcome for outcome in self.outcomes if outcome.problems)


def add_variants(
    path: str | Path,
    precisions: Sequence[str],
    *,
    options: Options | None = None,
    calibration: str | Path | None = None,
    data: str | Path | None = None,
    force: bool = False,
    dry_run: bool = False,
    timed: bool = True,
    show_progress: bool = False,
) -> Addition:
    """Make precisions of a bundle's fp32 graphs, and add those whose answers are as near as the task asks.

    `calibration` is a folder of pictures, or a file of typical inputs; `data` a file of inputs that answers are
    compared on as well; `force` makes a precision anew that is there; `dry_run` does all but write.
    Raises BundleError for a bundle without fp32, or that has a precision already; otherwise as `export` does.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    precisions = list(dict.fromkeys(precisions))
    recipe = _find_recipe(manifest, precisions, force=force)
    options = options or Options()
    _check_options(recipe, options)
    if data is not None:
        recipe = dataclasses.replace(recipe, samples=(*recipe.samples, *read_inputs(Path(data))))
    typical = _find_typical(recipe, None if calibration is None else Path(calibration))
    progress = Progress(stage_count(precisions) + 1, show=show_progress)
    with tempfile.TemporaryDirectory(prefix=f".{bundle.path.name}.", dir=bundle.path.parent) as scratch:
        folder = Path(scratch) / "bundle"
        made = {file for name in precisions for file in precision_files(manifest, name).values()}
        _link(bundle.path, folder, without=made)
        reference = load_model(bundle.path, precision=_REFERENCE)
        outcomes, variants = make_variants(
            folder,
            _without(manifest, precisions),
            reference,
            recipe,
            precisions,
            typical,
            progress,
            options,
        )
        with progress.stage("time and write"):
            if timed:
                outcomes = [_timed(outcome, folder, manifest, reference, recipe) for outcome in outcomes]
            if variants and not dry_run:
                _write(bundle.path, folder, manifest, reference, recipe, variants)
    return Addition(
        bundle=Path(path),
        id=manifest.id,
        task=manifest.task,
        outcomes=tuple(outcomes),
        written=bool(variants) and not dry_run,
    )


def _find_recipe(manifest: Manifest, precisions: Sequence[str], *, force: bool) -> Recipe:
    check_precisions(precisions)
    if _REFERENCE not in manifest.variants:
        raise BundleError(f"{manifest.id} has no fp32 to make others of; it has: {', '.join(manifest.variants)}")
    if _REFERENCE in precisions:
        raise BundleError(f"{manifest.id} has fp32 already, which everything else is made of")
    if not force and (there := [name for name in precisions if name in manifest.variants]):
        raise BundleError(f"{manifest.id} has {there[0]} already: --force makes it anew")
    recipe = recipe_of(manifest)
    check_recipe(precisions, recipe)
    return recipe


def _check_options(recipe: Recipe, options: Options) -> None:
    """Raise UnsupportedModel for options that would change nothing: of these, models that write have --block alone."""
    usual = Options(blocks=Blocks(options.blocks.size))
    if recipe.exporter == "generation" and options != usual:
        raise UnsupportedModel(
            f"models for {recipe.task} are made as a whole: of all options of the form of products only --block holds"
        )


def _find_typical(recipe: Recipe, given: Path | None) -> Calibration | None:
    if "image" in recipe.sections or given is None or given.is_dir():
        return find_calibration(recipe, given)
    return Calibration(read_inputs(given), drawn=False)


def _without(manifest: Manifest, precisions: Collection[str]) -> Manifest:
    """The manifest without what is made anew."""
    variants = {name: variant for name, variant in manifest.variants.items() if name not in precisions}
    return dataclasses.replace(manifest, variants=variants)


def _timed(outcome: Outcome, folder: Path, manifest: Manifest, reference: Model, recipe: Recipe) -> Outcome:
    """The outcome with how fast the variant is beside fp32, where it was kept."""
    if outcome.problems:
        return outcome
    sessions = graph_sessions(folder, precision_files(manifest, outcome.precision))
    candidate = candidate_model(folder, manifest, outcome.precision, sessions)
    speed = compare_speed(reference, candidate, recipe)
    slow = [f"{name}: {ratio:.2f}x" for name, ratio in speed.items() if ratio < 1]
    notes = (*outcome.notes, *([f"slower than fp32 on this machine ({', '.join(slow)})"] if slow else []))
    return dataclasses.replace(outcome, speed=speed, notes=notes)


def _write(
    path: Path, folder: Path, manifest: Manifest, reference: Model, recipe: Recipe, variants: Mapping[str, Variant]
) -> None:
    """Put a bundle with these variants, too, in the place of the one at `path`, opened as a user will before that."""
    draft = dataclasses.replace(
        _without(manifest, variants), tools={**manifest.tools, "onnxruntime": onnxruntime_version()}
    )
    base = candidate_model(folder, draft, _REFERENCE, reference.sessions)
    golden = [item for item in manifest.golden if not set(item.tolerance) <= variants.keys()]
    golden += golden_requests(base, dataclasses.replace(recipe, golden=_golden_input(manifest, recipe)), variants)
    whole = dataclasses.replace(
        draft, variants={**draft.variants, **variants}, golden=tuple(golden), files=_files(folder, manifest, variants)
    )
    write_manifest(folder, whole)
    reopen(folder, dataclasses.replace(whole, variants=dict(variants)))
    with staged_folder(path, replace=True) as staged:
        _link(folder, staged)


def _golden_input(manifest: Manifest, recipe: Recipe) -> object:
    """What the bundle was asked for its task before."""
    asked = [item.inputs for item in manifest.golden if item.task == recipe.task]
    return asked[0] if asked else recipe.golden


def _files(folder: Path, manifest: Manifest, variants: Mapping[str, Variant]) -> dict[str, FileEntry]:
    added = {file for variant in variants.values() for file in (*variant.files.values(), *variant.external_data)}
    return {name: entry for name, entry in list_files(folder).items() if name in manifest.files or name in added}


def _link(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """The files of a folder in another one, as links where the file system has them: weights are large."""
    for file in source.rglob("*"):
        name = file.relative_to(source)
        if not file.is_file() or any(name.as_posix().startswith(left) for left in without):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != _WEIGHTS:  # onnx reads none of those that has two names
            with contextlib.suppress(OSError):
                os.link(file, target / name)
                continue
        shutil.copyfile(file, target / name)
