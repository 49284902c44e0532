"""fastembed on a graph of one's own. See encoder_loop; FORM is fp32 or int8, WORK what onnx_graphs has made."""

from pathlib import Path
from typing import Any

from encoder_loop import Embed, answer  # type: ignore[import-not-found]  # beside this script


def make(_model: Path, work: Path, threads: int, form: str) -> Embed:
    """An encoder of texts."""
    from fastembed import TextEmbedding  # type: ignore[import-not-found]  # not in this project's environment
    from fastembed.common.model_description import ModelSource, PoolingType  # type: ignore[import-not-found]  # as above

    TextEmbedding.add_custom_model(
        model="local/MiniLM",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="local/MiniLM"),
        dim=384,
        model_file={"fp32": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}[form],
    )
    network = TextEmbedding("local/MiniLM", specific_model_path=str(work), threads=threads)

    def embed(texts: list[str]) -> Any:  # arrays
        return list(network.embed(texts))

    return embed


if __name__ == "__main__":
    answer(make, ["fastembed", "onnxruntime"])
