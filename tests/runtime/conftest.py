"""Tiny bundles around the graphs of `tiny_graphs`, for tests without torch and without the onnx package."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from graph_files import Node, Port, encode_model
from onnxpipe.bundle import MANIFEST_NAME
from onnxpipe.sections import Activation, Audio, Classification, Ctc, Detection, Embedding, Image, Segmentation, Table
from tiny_bundles import word_tokenizer, write_bundle, write_counter
from tiny_graphs import (
    SCORES,
    VECTORS,
    WEIGHTS,
    answerer,
    classifier,
    detector,
    encoder,
    image_classifier,
    masked_lm,
    segmenter,
    sound_classifier,
    speller,
    table_model,
    tagger,
)


@pytest.fixture
def port() -> type[Port]:
    return Port


@pytest.fixture
def node() -> type[Node]:
    return Node


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes a graph of any nodes and ports into tmp_path."""

    def write(nodes: Sequence[Node], inputs: Sequence[Port], outputs: Sequence[Port], **constants: np.ndarray) -> Path:
        file = tmp_path / "model.onnx"
        file.write_bytes(encode_model(nodes, inputs, outputs, constants))
        return file

    return write


@pytest.fixture
def make_tokenizer() -> Callable[..., tokenizers.Tokenizer]:
    return word_tokenizer


@pytest.fixture
def embedding_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for feature-extraction and sentence-similarity; keywords are those of Embedding and Text."""

    def write(
        *,
        pooling: Sequence[str] = ("mean",),
        neighbours: bool = False,
        batch_invariant: bool = True,
        precisions: Sequence[str] = ("fp32",),
        tokenizer: tokenizers.Tokenizer | None = None,
        text: Mapping[str, object] | None = None,
        **embedding: bool,
    ) -> Path:
        return write_bundle(
            tmp_path_factory.mktemp("embedding"),
            encoder(neighbours=neighbours),
            ("sentence-similarity", "feature-extraction"),
            text=text,
            batch_invariant=batch_invariant,
            precisions=precisions,
            embedding=Embedding(pooling=tuple(pooling), **embedding),
            tokenizer=tokenizer,
        )

    return write


@pytest.fixture
def classification_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for text-classification."""

    def write(
        *,
        labels: Sequence[str] = ("ONE", "TWO", "THREE"),
        activation: Activation = "softmax",
        dtype: str = "float32",
        tasks: Sequence[str] = ("text-classification",),
        text: Mapping[str, object] | None = None,
    ) -> Path:
        return write_bundle(
            tmp_path_factory.mktemp("classification"),
            classifier(len(labels), dtype),
            tasks,
            text=text,
            classification=Classification(labels=tuple(labels), activation=activation),
        )

    return write


@pytest.fixture
def fill_mask_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for fill-mask; keywords are fields of Text."""

    def write(**text: object) -> Path:
        tokenizer = word_tokenizer(words=WEIGHTS)
        tokenizer.add_special_tokens([word for word in WEIGHTS if word.startswith("[")])
        special = {"mask_token": "[MASK]", "pad_token": "[PAD]"}
        return write_bundle(
            tmp_path_factory.mktemp("fill-mask"),
            masked_lm(),
            ("fill-mask",),
            text={"special_tokens": special, "clean_up_spaces": True, **text},
            tokenizer=tokenizer,
        )

    return write


@pytest.fixture
def table_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for table-question-answering of at most `max_tokens`; other keywords are fields of Table."""

    def write(*, aggregations: Sequence[str] = ("NONE", "SUM"), max_tokens: int = 40, **table: object) -> Path:
        tokenizer = word_tokenizer(words=SCORES)
        tokenizer.add_special_tokens([word for word in SCORES if word.startswith("[")])
        sizes = {"type_sizes": (3, 8, 12, 2, 12, 12, 10), "max_columns": 7, "max_rows": 11, "no_aggregation": 0}
        return write_bundle(
            tmp_path_factory.mktemp("table"),
            table_model(aggregations=bool(aggregations)),
            ("table-question-answering",),
            text={"max_tokens": max_tokens, "special_tokens": {"cls_token": "[CLS]", "sep_token": "[SEP]"}},
            table=Table(**{"empty_token": "[EMPTY]", "aggregations": tuple(aggregations), **sizes, **table}),
            tokenizer=tokenizer,
        )

    return write


@pytest.fixture
def image_classification_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for image-classification; `image` holds fields of the manifest's Image."""

    def write(
        *,
        labels: Sequence[str] = ("RED", "GREEN", "BLUE"),
        activation: Activation = "softmax",
        dtype: str = "float32",
        image: Mapping[str, object] | None = None,
    ) -> Path:
        return write_bundle(
            tmp_path_factory.mktemp("image-classification"),
            image_classifier(3, dtype),
            ("image-classification",),
            image=Image(**{"factor": 1 / 50, **(image or {})}),
            classification=Classification(labels=tuple(labels), activation=activation),
        )

    return write


@pytest.fixture
def audio_classification_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for audio-classification; other keywords are fields of the manifest's Audio."""

    def write(*, activation: Activation = "softmax", **audio: object) -> Path:
        return write_bundle(
            tmp_path_factory.mktemp("audio-classification"),
            sound_classifier(),
            ("audio-classification",),
            audio=Audio(**{"sampling_rate": 16_000, **audio}),
            classification=Classification(labels=("UP", "DOWN", "HIGH"), activation=activation),
        )

    return write


@pytest.fixture
def spelling_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle that spells out samples which are ids of `vocabulary`; other keywords are fields of Ctc."""

    def write(*, batch_invariant: bool = True, sampling_rate: int = 1000, **ctc: object) -> Path:
        rules = {"vocabulary": ("<pad>", "|", "A", "B", "C"), "blank": "<pad>", "delimiter": "|", "frame_samples": 4}
        section = Ctc(**{**rules, **ctc})
        return write_bundle(
            tmp_path_factory.mktemp("spelling"),
            speller(len(section.vocabulary)),
            ("automatic-speech-recognition",),
            batch_invariant=batch_invariant,
            audio=Audio(sampling_rate=sampling_rate, min_samples=8),
            ctc=section,
        )

    return write


@pytest.fixture
def segmentation_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for image-segmentation; `image` holds fields of the manifest's Image, others are of Segmentation.

    A channel's values become 10 at its brightest and -10 where it is dark. Without `logits` it predicts pixels.
    """

    def write(
        logits: np.ndarray | None = None, *, image: Mapping[str, object] | None = None, **segmentation: object
    ) -> Path:
        kind: dict[str, object] = {"predicts": "pixels", "subtasks": ("semantic",)}
        if logits is not None:
            kind = {"predicts": "queries", "subtasks": ("panoptic", "instance", "semantic")}
        levels = {"factor": 1 / 255, "mean": (0.5,) * 3, "std": (0.05,) * 3}
        return write_bundle(
            tmp_path_factory.mktemp("segmentation"),
            segmenter(logits),
            ("image-segmentation",),
            image=Image(**{**levels, **(image or {})}),
            segmentation=Segmentation(**{"labels": ("RED", "GREEN", "BLUE"), **kind, **segmentation}),
        )

    return write


@pytest.fixture
def detection_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for object-detection; `image` holds fields of the manifest's Image, others are of Detection."""

    def write(
        logits: np.ndarray, boxes: np.ndarray, *, image: Mapping[str, object] | None = None, **detection: object
    ) -> Path:
        return write_bundle(
            tmp_path_factory.mktemp("detection"),
            detector(logits, boxes),
            ("object-detection",),
            image=Image(**{"factor": 1 / 255, **(image or {})}),
            detection=Detection(**{"labels": ("ONE", "TWO"), "scores": "softmax_without_last", **detection}),
        )

    return write


@pytest.fixture
def answering_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a bundle for question-answering; keywords are fields of Text.

    `logits` (V, 2) are those of each token of the vocabulary to be the first and the last of an answer.
    """

    def write(
        *, logits: np.ndarray | None = None, tokenizer: tokenizers.Tokenizer | None = None, **text: object
    ) -> Path:
        return write_bundle(
            tmp_path_factory.mktemp("answering"),
            answerer(np.zeros((len(VECTORS), 2), np.float32) if logits is None else logits),
            ("question-answering",),
            text=text,
            tokenizer=tokenizer,
        )

    return write


@pytest.fixture
def tagging_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Path]:
    """Writes a bundle for token-classification."""

    def write() -> Path:
        return write_bundle(
            tmp_path_factory.mktemp("tagging"),
            tagger(),
            ("token-classification",),
            classification=Classification(labels=("O", "B-NUM", "I-NUM"), activation="softmax"),
        )

    return write


@pytest.fixture
def writing_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes bundles of the model that counts to four; keywords are those of `write_counter`."""
    return lambda tasks, **given: write_counter(tmp_path_factory.mktemp("writing"), tasks, **given)


@pytest.fixture
def folder(embedding_bundle: Callable[..., Path]) -> Path:
    """A bundle in two precisions."""
    return embedding_bundle(precisions=("fp32", "int8"))


@pytest.fixture
def edit(folder: Path) -> Callable[[Callable[[dict], object]], None]:
    """Changes the data of that bundle's manifest in place and writes it back."""

    def change(function: Callable[[dict], object]) -> None:
        file = folder / MANIFEST_NAME
        data = json.loads(file.read_text())
        function(data)
        file.write_text(json.dumps(data))

    return change
