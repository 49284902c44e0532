"""The ways to run bundles that are measured side by side."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

from onnxpipe.bundle import Bundle, open_bundle
from onnxpipe.errors import InvalidInput
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.machine import inspect_machine
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.session import Level

BASELINE = "fp32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A precision of a bundle with its threads, providers, and how far onnxruntime rewrites its graphs."""

    path: str
    precision: str
    threads: int
    providers: tuple[str, ...] = ("cpu",)
    level: Level = "all"

    @property
    def key(self) -> str:
        """What tells it from the other ways to run its bundle."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return ", ".join([self.precision, threads, "+".join(self.providers), self.level])

    @property
    def baseline(self) -> "Candidate":
        """What it is compared with: fp32 run in the same way."""
        return dataclasses.replace(self, precision=BASELINE)

    def load(self, task: str) -> AnyPipeline:
        """Its pipeline for a task. Raises as `onnxpipe.load` does."""
        model = load_model(
            self.path, precision=self.precision, providers=self.providers, threads=self.threads, level=self.level
        )
        return make_pipeline(model, task)


def plan_candidates(
    bundles: Sequence[Bundle],
    *,
    precisions: Sequence[str] = (),
    threads: Sequence[int] = (),
    providers: Sequence[str] = ("cpu",),
    levels: Sequence[Level] = ("all",),
) -> list[Candidate]:
    """Every combination; all precisions where none is named, the planned threads where no number is.

    Raises InvalidInput for a precision that none of the bundles has.
    """
    known = list(dict.fromkeys(name for bundle in bundles for name in bundle.manifest.variants))
    if unknown := [name for name in precisions if name not in known]:
        raise InvalidInput(f"--variant: no bundle has {unknown[0]!r}; there are: {', '.join(known)}")
    return [
        Candidate(
            path=str(bundle.path), precision=precision, threads=count, providers=_provider_list(provider), level=level
        )
        for bundle in bundles
        for precision in bundle.manifest.variants
        if not precisions or precision in precisions
        for provider in providers
        for count in (threads or (inspect_machine().threads,))
        for level in levels
    ]


def name_candidates(candidates: Sequence[Candidate]) -> dict[Candidate, str]:
    """A short name for each: what is the same for all of them is left out."""
    paths = list(dict.fromkeys(candidate.path for candidate in candidates))
    ids = dict(zip(paths, _bundle_names(paths), strict=True))
    parts = [
        (
            ids[candidate.path],
            candidate.precision,
            f"{candidate.threads} thread{'s' if candidate.threads > 1 else ''}",
            "+".join(candidate.providers),
            f"level {candidate.level}",
        )
        for candidate in candidates
    ]
    varies = [len(set(column)) > 1 or place == 1 for place, column in enumerate(zip(*parts, strict=True))]
    return {
        candidate: ", ".join(part for part, kept in zip(named, varies, strict=True) if kept)
        for candidate, named in zip(candidates, parts, strict=True)
    }


def size_bytes(bundle: Bundle, precision: str) -> int:
    """The files of a precision."""
    variant = bundle.manifest.variants[precision]
    return sum(bundle.manifest.files[name].size_bytes for name in (*variant.files.values(), *variant.external_data))


def main_task(bundle: Bundle) -> str:
    """The task that is measured where none is named: the bundle's own, but vectors rather than their similarities."""
    manifest = bundle.manifest
    vectors = "feature-extraction"
    return vectors if manifest.task == "sentence-similarity" and vectors in manifest.tasks else manifest.task


def open_bundles(paths: Iterable[str]) -> list[Bundle]:
    """The bundles, each once. Raises BundleError."""
    return [open_bundle(path) for path in dict.fromkeys(paths)]


def _provider_list(provider: str) -> tuple[str, ...]:
    return tuple(provider.split("+"))


def _bundle_names(paths: Sequence[str]) -> list[str]:
    """Their ids, or their folders where two have the same id."""
    ids = [open_bundle(path).manifest.id for path in paths]
    if len(set(ids)) == len(ids):
        return ids
    folders = [Path(path).name for path in paths]
    return folders if len(set(folders)) == len(folders) else list(paths)
