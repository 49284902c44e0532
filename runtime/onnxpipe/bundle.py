"""The bundle: a folder that holds one model, its precisions, and everything a task needs to run it.

    manifest.json                 what this module describes
    tokenizer.json, config.json   copied from the model
    onnx/model.onnx               fp32; onnx/model_int8.onnx and so on, with the suffixes transformers.js uses

The manifest is the only thing that export and runtime share. It says what to do ("pooling": ["mean"]), never who made
the model. A reader refuses another format version, a missing or altered file, and any path that leaves the folder.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from onnxpipe.errors import BundleError, InvalidInput
from onnxpipe.records import FieldError, Record, plain, read, require
from onnxpipe.sections import (
    Audio,
    Chat,
    Classification,
    Ctc,
    Detection,
    Embedding,
    Generation,
    Image,
    Segmentation,
    Table,
    Text,
    Transcription,
    Translation,
)

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"

# precision -> the suffix of its files, as transformers.js and optimum spell them
SUFFIXES = {
    "fp32": "",
    "fp16": "_fp16",
    "int8": "_int8",
    "int8-static": "_int8_static",
    "int8-weights": "_int8_weights",
    "int4-weights": "_int4_weights",
    "q8": "_quantized",
    "int4": "_int4",
    "q4": "_q4",
}

Dim = int | str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(Record):
    """Where the model came from: the hub id or folder name, and the hub commit when there is one."""

    model: str
    revision: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tensor(Record):
    """One input or output of a graph; `shape` names the dynamic axes, `pad` fills what a shorter row leaves empty.

    Without `pad` (null), rows of different shapes never share a run: the model would take padding for content.
    """

    name: str
    dtype: str
    shape: tuple[Dim, ...]
    pad: int | None = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convolved(Record):
    """What convolutions of these `kernels` and `strides`, one after the other, make of the input axis `of`."""

    of: str
    kernels: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.strides) != len(self.kernels):
            raise FieldError("strides", f"expected {len(self.kernels)} as of kernels, given {len(self.strides)}")

    def size(self, length: int) -> int:
        """What is left of an axis of that length."""
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            length = max(0, (length - kernel) // stride + 1)
        return length


@dataclasses.dataclass(frozen=True, kw_only=True)
class Graph(Record):
    """What a graph takes and gives, the same for every precision; `convolved` axes of outputs follow others."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    convolved: Mapping[str, Convolved] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "inputs", "outputs")
        named = {axis for tensor in self.inputs for axis in tensor.shape}
        for axis, convolved in (self.convolved or {}).items():
            if convolved.of not in named:
                raise FieldError(f"convolved.{axis}.of", f"expected an axis of an input, given {convolved.of!r}")

    @property
    def has_past(self) -> bool:
        """Whether it goes on behind what earlier runs have left, as a decoder does."""
        return any(tensor.name.startswith("past_key_values.") for tensor in self.inputs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant(Record):
    """One precision: a file per graph, what was measured of it, and what that was held against.

    `external_data` lists the files that hold weights outside of the graph files, as models beyond 2 GB have them.

    `kept` names the products that did not get the precision's own form, as answers would suffer, with the one they got.

    `batch_invariant` false means that a row's answer depends on the rows it is run with (dynamic quantisation takes one
    scale for the whole batch); such variants are run row by row.
    """

    files: Mapping[str, str]
    external_data: tuple[str, ...] = ()
    batch_invariant: bool
    measured: Mapping[str, float]
    tolerance: Mapping[str, float]
    kept: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Golden(Record):
    """A request and the answer to it, for warming up and for `inspect --verify`.

    `expected` is torch's answer for fp32, and for a quantised precision its own on the machine it was verified on.
    `tolerance` holds the precisions it is for, and how far any number of their answers may be from it.
    """

    task: str
    inputs: Any
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    expected: Any
    tolerance: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileEntry(Record):
    """Size and digest of a file of the bundle."""

    size_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest(Record):
    """manifest.json. `task` is what the model is served as; `other_tasks` work on the same files."""

    format_version: int
    id: str
    task: str
    other_tasks: tuple[str, ...] = ()
    source: Source
    graphs: Mapping[str, Graph]
    variants: Mapping[str, Variant]
    text: Text | None = None
    embedding: Embedding | None = None
    classification: Classification | None = None
    table: Table | None = None
    image: Image | None = None
    detection: Detection | None = None
    segmentation: Segmentation | None = None
    audio: Audio | None = None
    generation: Generation | None = None
    translation: Translation | None = None
    chat: Chat | None = None
    ctc: Ctc | None = None
    transcription: Transcription | None = None
    golden: tuple[Golden, ...] = ()
    tools: Mapping[str, str]
    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "graphs")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Every task the bundle serves, its own first."""
        return (self.task, *self.other_tasks)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A folder with its manifest, checked: every listed file is there, inside the folder and of the listed size."""

    path: Path
    manifest: Manifest
    digest: str  # sha256 of manifest.json, which holds the digest of every other file

    def file(self, name: str) -> Path:
        """The full path of a listed file. Raises BundleError when the manifest does not list it."""
        if name not in self.manifest.files:
            raise BundleError(f"{self.path}: the manifest names {name!r} but does not list it under `files`")
        return self.path / name

    def variant(self, precision: str | None) -> tuple[str, Variant]:
        """The precision (the first one when None) and its record. Raises InvalidInput naming the choices."""
        variants = self.manifest.variants
        chosen = precision or next(iter(variants))
        if chosen not in variants:
            raise InvalidInput(f"{self.manifest.id} has no precision {chosen!r}; it has: {', '.join(variants)}")
        return chosen, variants[chosen]

    def verify(self, names: Iterable[str] | None = None) -> None:
        """Compare digests of the named files (all when None). Raises BundleError on the first that differs."""
        for name in self.manifest.files if names is None else names:
            given = sha256(self.file(name))
            if given != (expected := self.manifest.files[name].sha256):
                raise BundleError(
                    f"{self.path / name}: sha256 is {given}, the manifest says {expected}; the file was altered or "
                    "damaged: copy or export the bundle again"
                )


def open_bundle(path: str | Path) -> Bundle:
    """The bundle in a folder, its structure checked but digests not yet (`Bundle.verify` does that).

    Raises BundleError when the folder, the manifest or a listed file is missing, or when anything in them is wrong.
    """
    folder = Path(path)
    try:
        content = (folder / MANIFEST_NAME).read_bytes()
    except OSError:
        hint = "no such folder" if not folder.is_dir() else f"no {MANIFEST_NAME} in it"
        raise BundleError(f"{folder}: not a bundle ({hint}); `onnxpipe export MODEL OUT` makes one") from None
    manifest = parse_manifest(content, str(folder / MANIFEST_NAME))
    root = folder.resolve()
    for name, entry in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise BundleError(f"{file}: missing, though the manifest lists it; copy or export the bundle again")
        if not file.resolve().is_relative_to(root):
            raise BundleError(f"{file}: leads out of the bundle's folder")
        if (size := file.stat().st_size) != entry.size_bytes:
            raise BundleError(f"{file}: has {size} bytes, the manifest says {entry.size_bytes}; it is not whole")
    return Bundle(folder, manifest, hashlib.sha256(content).hexdigest())


def parse_manifest(content: bytes, where: str) -> Manifest:
    """The manifest in `content`. Raises BundleError, starting with `where`, saying what is wrong."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not JSON ({error})") from None
    version = data.get("format_version") if isinstance(data, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{where}: bundle format version {version!r}, but this onnxpipe reads version {FORMAT_VERSION}; "
            "upgrade onnxpipe or export the model again"
        )
    try:
        manifest = read(Manifest, data)
    except InvalidInput as error:
        raise BundleError(f"{where}: {error}") from None
    for name in manifest.files:
        check_relative(name, where)
    if not manifest.variants:
        raise BundleError(f"{where}: `variants` is empty; a bundle holds at least one precision")
    for precision, variant in manifest.variants.items():
        if missing := manifest.graphs.keys() - variant.files.keys():
            raise BundleError(f"{where}: `variants.{precision}` has no file for graph {missing.pop()!r}")
    return manifest


def check_relative(name: str, where: str) -> None:
    """Raise BundleError unless `name` is a plain relative path that stays in its folder, spelled with slashes."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
        raise BundleError(f"{where}: the path {name!r} leaves the bundle's folder")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into `folder`."""
    text = json.dumps(plain(manifest), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / MANIFEST_NAME).write_text(f"{text}\n", encoding="utf-8")


def sha256(file: Path) -> str:
    """The hex digest of a file, read in pieces."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
