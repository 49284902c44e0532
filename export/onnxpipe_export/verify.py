"""Torch in the place of a bundle's graphs, and the reference's tokens beside the runtime's.

The torch model takes the place of the onnxruntime session in the runtime's own pipeline, so every figure compares the
two engines on the very same rows, and the reference's answers come out in the shape a user gets them in.
"""

from collections.abc import Mapping
from typing import Any

from onnxpipe.bundle import Graph
from onnxpipe.errors import UnsupportedModel
from onnxpipe.pipeline import Model
from onnxpipe.session import Array, Arrays
from onnxpipe.verification.samples import TEXTS
from onnxpipe_export.quiet import quiet


class TorchEngine:
    """A torch model with the face of a session."""

    device = "cpu"

    def __init__(self, model: Any, graph: Graph) -> None:  # a torch module: torch is untyped here
        import torch

        self._torch = torch
        self._model = model
        self._outputs = [tensor.name for tensor in graph.outputs]
        self.threads: int = torch.get_num_threads()

    @property
    def model(self) -> Any:
        """The torch model itself."""
        return self._model

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        """The outputs of the graph it stands for, for one batch of inputs."""
        with self._torch.inference_mode(), quiet():  # WavLM's attention is warned of by torch itself
            outputs = self._model(**{name: self._torch.from_numpy(array) for name, array in feeds.items()})
        return {name: outputs[name].numpy() for name in self._outputs}


def torch_model(reference: Model) -> Any:  # a torch module
    """The torch model in the place of a reference's graphs. Raises TypeError when there is none."""
    for engine in reference.sessions.values():
        if isinstance(engine, TorchEngine):
            return engine.model
    raise TypeError("expected a model with torch in the place of its graphs")


def check_tokens(model: Model, tokenizer: Any) -> None:
    """Raise UnsupportedModel unless the runtime's tokens equal transformers' for single texts and pairs.

    Pairs only where the reference is a fast tokenizer: slow ones cut them in another way, and what has such reads none.
    """
    limit = model.tokenizer.text.max_tokens
    cut = {"truncation": True, "max_length": limit} if limit else {}
    for text, pair in zip(TEXTS, (None, *TEXTS), strict=False):
        for second in {None, pair if tokenizer.is_fast else None}:
            # not verbose: it would warn of texts that are longer than the model's
            expected = tokenizer(text, second, verbose=False, **cut)["input_ids"]
            given = model.tokenizer.encode(text, second).ids.tolist()
            if given != expected:
                raise UnsupportedModel(
                    f"{model.bundle.manifest.id}: the converted tokenizer differs from transformers' on {text[:40]!r}: "
                    f"{given[:8]}... instead of {expected[:8]}..."
                )
