"""Models that read texts without a graph: the real tasks over outputs that can be worked out by hand.

Tokens are bytes, and a text begins with <s>. The hidden state of a token is its number and 1, so the mean of a text is
the mean of its bytes and 1. The logits of a classifier are a hundredth of its last token, twice that, and so on. An id
of `POISON` cannot be looked up, as one beyond the table of a real graph.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from fake_writer import write_tokenizer
from onnxpipe.bundle import Bundle, FileEntry, Graph, Manifest, Source, Tensor, Variant
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.sections import Classification, Embedding, Text
from onnxpipe.session import Array, Arrays
from onnxpipe_server.models import Served

BOS, EOS = 256, 257
POISON = 9_999


class FakeEngine:
    """Counts its runs."""

    device, threads = "cpu", 1

    def __init__(self, output: str, width: int) -> None:
        self.runs = 0
        self._output, self._width = output, width

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        self.runs += 1
        ids = feeds["input_ids"]
        if (ids == POISON).any():
            raise RuntimeError("Name:'/secret/Gather' indices element out of data bounds")
        if self._output == "logits":
            last = ids[np.arange(len(ids)), feeds["attention_mask"].sum(axis=1) - 1]
            return {"logits": np.outer(last / 100, np.arange(1, self._width + 1)).astype(np.float32)}
        return {self._output: np.stack([ids, feeds["attention_mask"]], axis=-1).astype(np.float32)}


def make_encoder(
    folder: Path,
    model_id: str,
    *,
    labels: Sequence[str] = (),
    activation: str = "softmax",
    keep_tokens: bool = False,
    normalize: bool = False,
    max_tokens: int | None = 16,
) -> Served:
    """A served model that embeds texts, or one with labels."""
    path = folder / model_id.replace("/", "-")
    path.mkdir(parents=True, exist_ok=True)
    write_tokenizer(path / "tokenizer.json")
    inputs = tuple(
        Tensor(name=name, dtype="int64", shape=("batch", "tokens")) for name in ("input_ids", "attention_mask")
    )
    hidden = Tensor(name="last_hidden_state", dtype="float32", shape=("batch", "tokens", 2))
    logits = Tensor(name="logits", dtype="float32", shape=("batch", len(labels)))
    graph = Graph(inputs=inputs, outputs=(logits if labels else hidden,))
    variant = Variant(files={"model": "model.onnx"}, batch_invariant=True, measured={}, tolerance={})
    tasks = ("text-classification",) if labels else ("sentence-similarity", "feature-extraction")
    manifest = Manifest(
        format_version=1,
        id=model_id,
        task=tasks[0],
        other_tasks=tasks[1:],
        source=Source(model=model_id, revision="abc123"),
        graphs={"model": graph},
        variants={"fp32": variant},
        text=Text(
            tokenizer="tokenizer.json",
            max_tokens=max_tokens,
            special_tokens={"bos_token": "<s>"},
            prompts={"query": "q: "},
        ),
        embedding=None if labels else Embedding(pooling=("mean",), normalize=normalize, keep_tokens=keep_tokens),
        classification=Classification(labels=tuple(labels), activation=activation) if labels else None,
        tools={},
        files={name: FileEntry(size_bytes=1, sha256="0" * 64) for name in ("tokenizer.json", "model.onnx")},
    )
    engine = FakeEngine(graph.outputs[0].name, len(labels))
    model = Model(Bundle(path, manifest, "d" * 64), "fp32", variant, {"model": engine})
    return Served(model, {task: make_pipeline(model, task) for task in tasks})
