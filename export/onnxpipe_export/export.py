"""The whole way: find the model, convert, quantise, verify, and write what passed as a bundle."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxpipe.bundle import FORMAT_VERSION, Golden, Manifest, Source, Variant, write_manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.records import plain
from onnxpipe.session import Session, onnxruntime_version
from onnxpipe.version import __version__
from onnxpipe_export.convert import Exporter, OptimumExporter, describe_graph, load_torch
from onnxpipe_export.progress import Progress
from onnxpipe_export.recipes import Recipe, choose_recipe
from onnxpipe_export.samples import with_mask
from onnxpipe_export.sections import classification_section, embedding_section, table_section, text_section
from onnxpipe_export.source import SourceModel, find_model
from onnxpipe_export.tokenizer import load_tokenizer, write_tokenizer
from onnxpipe_export.variants import Outcome, candidate_model, check_precisions, make_variants, stage_count
from onnxpipe_export.verify import TorchEngine, check_tokens
from onnxpipe_export.write import list_files, staged_folder

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
    force: bool = False,
    show_progress: bool = False,
    exporter: Exporter | None = None,
) -> Report:
    """Make a bundle in folder `out` from a model folder or a hub id.

    `task` is guessed from the model's files when None; `bundle_id` is the name it is served under (the hub id or the
    folder's name when None); `force` replaces a bundle that is already there.
    A precision that misses its recipe's tolerance is left out and reported as refused. Raises UnsupportedModel when
    the model cannot be exported or no precision passes, BundleError when `out` is taken; then nothing is written.
    """
    check_precisions(precisions)
    precisions = list(dict.fromkeys(precisions))
    progress = Progress(_OWN_STAGES + stage_count(precisions), show=show_progress)
    exporter = exporter or OptimumExporter()
    with staged_folder(Path(out), replace=force) as folder:
        with progress.stage("load the model"):
            source = find_model(str(model), revision)
            recipe = choose_recipe(source, task)
            tokenizer = load_tokenizer(source, recipe.tokenizer_class)
            torch_model = load_torch(source, recipe)
        with progress.stage("convert"):
            (folder / "onnx").mkdir()
            files = exporter.export(torch_model, recipe, folder / "onnx")
            write_tokenizer(tokenizer, folder)
            shutil.copyfile(source.folder / "config.json", folder / "config.json")
            draft = _draft(source, bundle_id, recipe, exporter, torch_model, tokenizer, folder, files)
            reference = candidate_model(folder, draft, "fp32", TorchEngine(torch_model, draft.graphs["model"]))
            check_tokens(reference, tokenizer)
        outcomes, variants = make_variants(folder, draft, reference, recipe, precisions, progress)
        if not variants:
            reasons = "; ".join(f"{outcome.precision}: {', '.join(outcome.problems)}" for outcome in outcomes)
            raise UnsupportedModel(f"{draft.id}: no precision passed verification, so nothing was written ({reasons})")
        with progress.stage("write"):
            golden = _golden(reference, recipe, variants)
            manifest = dataclasses.replace(draft, variants=variants, golden=golden, files=list_files(folder))
            write_manifest(folder, manifest)
            _reopen(folder, manifest)
    return Report(bundle=Path(out), id=draft.id, task=draft.task, outcomes=tuple(outcomes))


def _draft(
    source: SourceModel,
    bundle_id: str | None,
    recipe: Recipe,
    exporter: Exporter,
    model: Any,  # a torch module and its tokenizer: both untyped
    tokenizer: Any,
    folder: Path,
    files: Mapping[str, Path],
) -> Manifest:
    """The manifest without what verification adds to it."""
    pads = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    return Manifest(
        format_version=FORMAT_VERSION,
        id=bundle_id or source.name,
        task=recipe.task,
        other_tasks=recipe.other_tasks,
        source=Source(model=source.name, revision=source.revision),
        graphs={name: describe_graph(file, recipe, pads) for name, file in files.items()},
        variants={},
        text=text_section(source, model, tokenizer),
        embedding=embedding_section(source) if "embedding" in recipe.sections else None,
        classification=classification_section(model) if "classification" in recipe.sections else None,
        table=table_section(source, model, tokenizer) if "table" in recipe.sections else None,
        tools={"onnxpipe": __version__, "onnxruntime": onnxruntime_version(), **exporter.tools()},
        files=list_files(folder),
    )


def _golden(reference: Model, recipe: Recipe, variants: Mapping[str, Variant]) -> tuple[Golden, ...]:
    """A request to the model's own task per precision: with torch's answer for fp32, else with the variant's own.

    A quantised answer may rightly differ from torch's in more than numbers, by an entity for instance; how much it does
    was judged before.
    """
    inputs = with_mask([recipe.golden or recipe.samples[0]], reference)[0]
    parameters = recipe.parameters if recipe.golden_parameters is None else recipe.golden_parameters
    golden = []
    for precision, variant in variants.items():
        model = reference
        if precision != "fp32":
            session = Session(reference.bundle.path / variant.files["model"])
            model = candidate_model(reference.bundle.path, reference.bundle.manifest, precision, session)
        golden.append(
            Golden(
                task=recipe.task,
                inputs=inputs,
                parameters=parameters,
                expected=plain(make_pipeline(model)(inputs, **parameters)),
                tolerance={precision: recipe.golden_tolerance[precision]},
            )
        )
    return tuple(golden)


def _reopen(folder: Path, manifest: Manifest) -> None:
    """Open the written bundle as a user will. Raises UnsupportedModel when a golden answer is not reproduced."""
    for precision in manifest.variants:
        if found := check_golden(load_model(folder, precision=precision)):
            raise UnsupportedModel(f"{manifest.id} in {precision}: {found[0]}")
