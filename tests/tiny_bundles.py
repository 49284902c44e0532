"""Bundles around the graphs of `tiny_graphs`, written without torch and without the onnx package."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import tokenizers
from tokenizers import models, pre_tokenizers, processors

from onnxpipe.bundle import SUFFIXES, FileEntry, Graph, Manifest, Source, Variant, sha256, write_manifest
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
)
from tiny_graphs import VECTORS, writer, writers_encoder


def word_tokenizer(*, template: bool = True, words: Iterable[str] = VECTORS) -> tokenizers.Tokenizer:
    """One token per word; with `template`, [CLS] text [SEP] and [CLS] text [SEP] pair [SEP] around them."""
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if template:
        special = [(word, ids[word]) for word in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
        )
    return tokenizer


def write_bundle(
    folder: Path,
    model: tuple[bytes, Graph],
    tasks: Sequence[str],
    *,
    text: Mapping[str, object] | None = None,
    batch_invariant: bool = True,
    precisions: Sequence[str] = ("fp32",),
    embedding: Embedding | None = None,
    classification: Classification | None = None,
    table: Table | None = None,
    image: Image | None = None,
    detection: Detection | None = None,
    segmentation: Segmentation | None = None,
    audio: Audio | None = None,
    ctc: Ctc | None = None,
    tokenizer: tokenizers.Tokenizer | None = None,
) -> Path:
    """A complete bundle in `folder`; `text` holds fields of the manifest's Text, which only models of texts have."""
    content, graph = model
    (folder / "onnx").mkdir()
    reads_text = image is None and audio is None
    if reads_text:
        (tokenizer or word_tokenizer()).save(str(folder / "tokenizer.json"))
    files = {precision: f"onnx/model{SUFFIXES[precision]}.onnx" for precision in precisions}
    for name in files.values():
        (folder / name).write_bytes(content)
    manifest = Manifest(
        format_version=1,
        id="tiny",
        task=tasks[0],
        other_tasks=tuple(tasks[1:]),
        source=Source(model="tiny"),
        graphs={"model": graph},
        variants={
            precision: Variant(files={"model": name}, batch_invariant=batch_invariant, measured={}, tolerance={})
            for precision, name in files.items()
        },
        text=Text(**{"tokenizer": "tokenizer.json", **(text or {})}) if reads_text else None,
        embedding=embedding,
        classification=classification,
        table=table,
        image=image,
        detection=detection,
        segmentation=segmentation,
        audio=audio,
        ctc=ctc,
        tools={},
        files={
            name: FileEntry(size_bytes=(folder / name).stat().st_size, sha256=sha256(folder / name))
            for name in (*(["tokenizer.json"] if reads_text else []), *files.values())
        },
    )
    write_manifest(folder, manifest)
    return folder


def write_counter(
    folder: Path, tasks: Sequence[str], *, encoder: bool = False, chat: Chat | None = None, **generation: object
) -> Path:
    """A bundle of the model that counts to four; with `encoder`, it begins at "one" whatever it has read."""
    (folder / "onnx").mkdir()
    made = {"decoder": writer(sources=encoder), **({"encoder": writers_encoder()} if encoder else {})}
    for name, (content, _) in made.items():
        (folder / "onnx" / f"{name}.onnx").write_bytes(content)
    tokenizer = word_tokenizer(template=encoder)
    tokenizer.add_special_tokens(["[SEP]"])
    tokenizer.save(str(folder / "tokenizer.json"))
    files = {name: f"onnx/{name}.onnx" for name in made}
    words = list(VECTORS)
    defaults = {"eos_token_id": words.index("[SEP]")}
    begin = {"decoder_prompt": (words.index("one"),)} if encoder else {}
    manifest = Manifest(
        format_version=1,
        id="counter",
        task=tasks[0],
        other_tasks=tuple(tasks[1:]),
        source=Source(model="counter"),
        graphs={name: graph for name, (_, graph) in made.items()},
        variants={"fp32": Variant(files=files, batch_invariant=True, measured={}, tolerance={})},
        text=Text(tokenizer="tokenizer.json", max_tokens=12, special_tokens={"eos_token": "[SEP]"}),
        generation=Generation(**{"defaults": defaults, "max_length": 24, **begin, **generation}),
        chat=chat,
        tools={},
        files={
            name: FileEntry(size_bytes=(folder / name).stat().st_size, sha256=sha256(folder / name))
            for name in ("tokenizer.json", *files.values())
        },
    )
    write_manifest(folder, manifest)
    return folder
