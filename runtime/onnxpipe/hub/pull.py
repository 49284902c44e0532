"""The whole way from a repository of ready-made graphs to a bundle: find, choose, derive, measure, write."""

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from onnxpipe.bundle import FORMAT_VERSION, Bundle, Manifest, Source, write_manifest
from onnxpipe.errors import UnsupportedModel
from onnxpipe.golden import check_golden
from onnxpipe.hub import door
from onnxpipe.hub.comparison import Comparison, Outcome, open_graph
from onnxpipe.hub.graphs import describe_graph
from onnxpipe.hub.layout import Layout, read_layout
from onnxpipe.hub.rows import Row, check_one_graph, choose_row
from onnxpipe.hub.sections import following, make_sections
from onnxpipe.hub.source import SourceModel
from onnxpipe.hub.text import write_tokenizer
from onnxpipe.load import load_model
from onnxpipe.session import Session, onnxruntime_version
from onnxpipe.staging import list_files, staged_folder
from onnxpipe.version import __version__

# what says how a model is used: no weights, no code
_SETTINGS = ("*.json", "*.txt")
_COPIED = ("config.json", "preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The bundle that was written, which precision the others were measured by, and what was measured."""

    bundle: Path
    id: str
    task: str
    reference: str
    outcomes: tuple[Outcome, ...]

    @property
    def refused(self) -> tuple[Outcome, ...]:
        """The precisions that did not pass and are not in the bundle."""
        return tuple(outcome for outcome in self.outcomes if outcome.problems)


def find_layout(repo: str, revision: str | None = None) -> Layout:
    """The graphs of a folder or a hub repository; offline, those in the hub's cache.

    Raises UnsupportedModel when it cannot be found or has no graphs.
    """
    if Path(repo).is_dir():
        if revision is not None:
            raise UnsupportedModel(f"{repo} is a folder: a revision only means something for a hub id")
        return read_layout(_sizes(Path(repo)), repo)
    if door.is_offline():
        # the folder of the cache, and whatever is in it: asked for all files, the cache would miss some
        return read_layout(_sizes(door.download(repo, revision, ["config.json"])[0]), repo)
    return read_layout(door.list_repo(repo, revision), repo)


def pull(
    repo: str,
    out: str | Path,
    *,
    precisions: Sequence[str] | None = None,
    task: str | None = None,
    bundle_id: str | None = None,
    revision: str | None = None,
    force: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Make a bundle in folder `out` from ready-made graphs in a folder or a hub repository.

    `precisions` are those to take (the best and 8 bits when None). What they answer is measured beside the best
    precision there is; one that is too far from it is left out and reported as refused. `task` is told by the model's
    files when None; `bundle_id` is the name it is served under (the hub id or the folder's name when None); `force`
    replaces a bundle that is already there. `say` is told what is being done.
    Raises UnsupportedModel when the model cannot be pulled or no precision passes, BundleError when `out` is taken;
    then nothing is written.
    """
    layout = find_layout(repo, revision)
    check_one_graph(repo, layout.parts)
    layout = _single(layout, repo)
    chosen = layout.choose(precisions)
    best = next(iter(layout.graphs))
    say(f"{repo}: taking {', '.join(chosen)} of {', '.join(layout.graphs)}")
    with staged_folder(Path(out), replace=force) as folder:
        source = _fetch(repo, revision, [file for name in {best, *chosen} for file in layout.files(name)])
        with following(source.name):
            row = choose_row(source, task)
            reference = open_graph(source, layout, best)
            draft = _draft(source, row, reference, bundle_id, folder)
        say(f"{best}: answering {len(row.samples)} samples")
        comparison = Comparison(row, source, layout, Bundle(folder, draft, digest=""), reference)
        outcomes = []
        for name in chosen:
            say(f"{name}: alone, in batches" + ("" if name == best else f", and beside {best}"))
            outcomes.append(comparison.measure(name))
        variants, golden = comparison.keep(outcomes, folder)
        if not variants:
            reasons = "; ".join(f"{outcome.precision}: {', '.join(outcome.problems)}" for outcome in outcomes)
            raise UnsupportedModel(f"{draft.id}: no precision passed, so nothing was written ({reasons})")
        manifest = dataclasses.replace(draft, variants=variants, golden=golden, files=list_files(folder))
        write_manifest(folder, manifest)
        for precision in variants:
            if found := check_golden(load_model(folder, precision=precision)):
                raise UnsupportedModel(f"{draft.id} in {precision}: {found[0]}")
    return Report(bundle=Path(out), id=draft.id, task=draft.task, reference=best, outcomes=tuple(outcomes))


def _single(layout: Layout, repo: str) -> Layout:
    """The layout with the graphs `model` alone. Raises UnsupportedModel when there are others only."""
    graphs = {precision: {"model": files["model"]} for precision, files in layout.graphs.items() if "model" in files}
    if not graphs:
        raise UnsupportedModel(f"{repo}: its graphs are {', '.join(layout.parts)}; expected one, model.onnx")
    return dataclasses.replace(layout, graphs=graphs)


def _sizes(folder: Path) -> dict[str, int]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def _fetch(repo: str, revision: str | None, files: Sequence[str]) -> SourceModel:
    """The folder with these files and all settings. Raises UnsupportedModel when it has no config.json."""
    if Path(repo).is_dir():
        source = SourceModel(Path(repo), Path(repo).resolve().name, None, {})
    else:
        folder, commit = door.download(repo, revision, (*_SETTINGS, *files))
        source = SourceModel(folder, repo, commit, {})
    config = source.read_json("config.json")
    if not isinstance(config, dict):
        raise UnsupportedModel(f"{repo}: no config.json, which says what kind of model it is")
    return dataclasses.replace(source, config=config)


def _draft(source: SourceModel, row: Row, reference: Session, bundle_id: str | None, folder: Path) -> Manifest:
    """The manifest without what measuring adds to it, the model's settings being copied into `folder`."""
    graph = describe_graph(reference, source, row)
    for name in _COPIED:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)
    if "text" in row.sections:
        write_tokenizer(source, folder)
    return Manifest(
        format_version=FORMAT_VERSION,
        id=bundle_id or source.name,
        task=row.task,
        other_tasks=row.other_tasks,
        source=Source(model=source.name, revision=source.revision),
        graphs={"model": graph},
        variants={},
        tools={"onnxpipe": __version__, "onnxruntime": onnxruntime_version()},
        files=list_files(folder),
        **make_sections(source, row.sections, graph),
    )
