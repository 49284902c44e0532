"""The whole way: find the model, convert, quantise, verify, and write what passed as a bundle."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnxpipe.bundle import FORMAT_VERSION, Manifest, Source, write_manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.session import onnxruntime_version
from onnxpipe.staging import list_files, staged_folder
from onnxpipe.verification.sounds import SOUNDS
from onnxpipe.version import __version__
from onnxpipe_export.audio import check_sound
from onnxpipe_export.audio_patches import takes_mask
from onnxpipe_export.calibration import find_calibration
from onnxpipe_export.convert import Exporter, OptimumExporter, describe_graph
from onnxpipe_export.ctc import name_frames
from onnxpipe_export.generation.exporter import GenerationExporter
from onnxpipe_export.goldens import golden_requests, reopen
from onnxpipe_export.loaded import Loaded, load_parts
from onnxpipe_export.progress import Progress
from onnxpipe_export.recipe import Backend, Recipe
from onnxpipe_export.recipes import choose_recipe
from onnxpipe_export.sections import make_sections
from onnxpipe_export.source import find_model
from onnxpipe_export.tokenizer import write_tokenizer
from onnxpipe_export.variants import (
    Outcome,
    candidate_model,
    check_precisions,
    check_recipe,
    make_variants,
    stage_count,
)
from onnxpipe_export.verify import TorchEngine, check_tokens

EXPORTERS: Mapping[Backend, type[Exporter]] = {"optimum": OptimumExporter, "generation": GenerationExporter}

# load, convert, write; `make_variants` shows the others
_OWN_STAGES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The bundle that was written and what was measured of each requested precision."""

    bundle: Path
    id: str
    task: str
    outcomes: tuple[Outcome, ...]

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """The requested precisions that did not pass and are not in the bundle."""
        return tuple(outcome for outcome in self.outcomes if outcome.problems)


def export(
    model: str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    precisions: Sequence[str] = ("fp32", "int8"),
    bundle_id: str | None = None,
    revision: str | None = None,
    calibration: str | Path | None = None,
    force: bool = False,
    show_progress: bool = False,
    exporter: Exporter | None = None,
) -> Report:
    """Make a bundle in folder `out` from a model folder or a hub id.

    `task` is guessed from the model's files when None; `bundle_id` is the name it is served under (the hub id or the
    folder's name when None); `force` replaces a bundle that is already there; `calibration` is a folder of typical
    pictures, for models that take some to become int8 (drawn ones serve when None).
    A precision that misses its recipe's tolerance is left out and reported as refused. Raises UnsupportedModel when
    the model cannot be exported or no precision passes, BundleError when `out` is taken; then nothing is written.
    """
    check_precisions(precisions)
    precisions = list(dict.fromkeys(precisions))
    progress = Progress(_OWN_STAGES + stage_count(precisions), show=show_progress)
    with staged_folder(Path(out), replace=force) as folder:
        with progress.stage("load the model"):
            source = find_model(str(model), revision)
            recipe = choose_recipe(source, task)
            check_recipe(precisions, recipe)
            exporter = exporter or EXPORTERS[recipe.exporter]()
            pictures = find_calibration(recipe, None if calibration is None else Path(calibration))
            loaded = load_parts(source, recipe)
        with progress.stage("convert"):
            (folder / "onnx").mkdir()
            files = exporter.export(loaded, recipe, folder / "onnx")
            _copy_files(loaded, folder)
            draft = _draft(loaded, bundle_id, recipe, exporter, folder, files)
            engines = {name: TorchEngine(loaded.model, graph) for name, graph in draft.graphs.items()}
            reference = candidate_model(folder, draft, "fp32", engines)
            if loaded.tokenizer is not None:
                check_tokens(reference, loaded.tokenizer)
            if draft.audio is not None:
                graph = next(iter(draft.graphs.values()))
                check_sound(draft.audio, graph, loaded.feature_extractor, SOUNDS, draft.id)
        outcomes, variants = make_variants(folder, draft, reference, recipe, precisions, pictures, progress)
        if not variants:
            reasons = "; ".join(f"{outcome.precision}: {', '.join(outcome.problems)}" for outcome in outcomes)
            raise UnsupportedModel(f"{draft.id}: no precision passed verification, so nothing was written ({reasons})")
        with progress.stage("write"):
            golden = golden_requests(reference, recipe, variants)
            manifest = dataclasses.replace(draft, variants=variants, golden=golden, files=list_files(folder))
            write_manifest(folder, manifest)
            reopen(folder, manifest)
    return Report(bundle=Path(out), id=draft.id, task=draft.task, outcomes=tuple(outcomes))


def _copy_files(loaded: Loaded, folder: Path) -> None:
    """The model's own files that the runtime, or another one beside it, reads."""
    source = loaded.source.folder
    has_processor = loaded.image_processor is not None or loaded.feature_extractor is not None
    for name in ("config.json", *(["preprocessor_config.json"] if has_processor else [])):
        shutil.copyfile(source / name, folder / name)
    if loaded.tokenizer is not None:
        write_tokenizer(loaded.tokenizer, folder)


def _draft(
    loaded: Loaded,
    bundle_id: str | None,
    recipe: Recipe,
    exporter: Exporter,
    folder: Path,
    files: Mapping[str, Path],
) -> Manifest:
    """The manifest without what verification adds to it."""
    source, tokenizer = loaded.source, loaded.tokenizer
    pads: dict[str, int | None] = {}
    if tokenizer is not None:
        pads = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    if loaded.feature_extractor is not None and not takes_mask(loaded):
        pads["input_values"] = None
    graphs = {name: describe_graph(file, recipe, pads) for name, file in files.items()}
    if "ctc" in recipe.sections:
        graphs = {name: name_frames(graph, loaded.model.config) for name, graph in graphs.items()}
    return Manifest(
        format_version=FORMAT_VERSION,
        id=bundle_id or source.name,
        task=recipe.task,
        other_tasks=recipe.other_tasks,
        source=Source(model=source.name, revision=source.revision),
        graphs=graphs,
        variants={},
        tools={"onnxpipe": __version__, "onnxruntime": onnxruntime_version(), **exporter.tools()},
        files=list_files(folder),
        **make_sections(loaded, recipe, next(iter(graphs.values()))),
    )
