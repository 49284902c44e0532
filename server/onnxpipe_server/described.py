"""What is known of a model before it is loaded."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from onnxpipe.bundle import MANIFEST_NAME, Bundle
from onnxpipe.load import pipeline_class
from onnxpipe.pipeline import AnyPipeline

# What a model takes beside its weights: onnxruntime's arena and what runs leave in it.
_ARENA_BYTES = 24_000_000
# Weights in the order that the kernels read take so much more.
_WEIGHTS_GROWTH = 1.5
# A tokenizer takes about this many times its file's bytes.
_TOKENIZER_GROWTH = 6


@dataclasses.dataclass(frozen=True)
class Plan:
    """Where models run, "cpu" or "gpu", and with how many threads."""

    device: str
    threads: int


@dataclasses.dataclass(frozen=True)
class Description:
    """What is known of a model before it is loaded; `stamp` tells this manifest from a later one."""

    bundle: Bundle
    precision: str
    kinds: Mapping[str, type[AnyPipeline]]
    stamp: tuple[int, ...]

    @classmethod
    def of(cls, bundle: Bundle, precision: str | None) -> "Description":
        """That of a bundle. Raises InvalidInput for a precision, or UnsupportedModel for a task, that is not there."""
        kinds = {task: pipeline_class(task) for task in bundle.manifest.tasks}
        return cls(bundle, bundle.variant(precision)[0], kinds, stamp_of(bundle.path))

    @property
    def planned_bytes(self) -> int:
        """The memory it is planned to take: its weights, its tokenizer, and room to run."""
        manifest = self.bundle.manifest
        variant = manifest.variants[self.precision]
        weights = sum(manifest.files[name].size_bytes for name in (*variant.files.values(), *variant.external_data))
        tokenizer = manifest.files[manifest.text.tokenizer].size_bytes if manifest.text else 0
        return int(weights * _WEIGHTS_GROWTH + tokenizer * _TOKENIZER_GROWTH) + _ARENA_BYTES


def stamp_of(folder: Path) -> tuple[int, ...]:
    """What changes when a folder's manifest does; empty when there is none."""
    try:
        stat = (folder / MANIFEST_NAME).stat()
    except OSError:
        return ()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
