"""optimum's ORTModelForFeatureExtraction, pooled as the model's card says. See encoder_loop; FORM is fp32 or int8.

WORK is what onnx_graphs has made. The session has its defaults but for the number of threads.
"""

from pathlib import Path
from typing import Any

from encoder_loop import Embed, answer, in_batches  # type: ignore[import-not-found]  # beside this script


def make(_model: Path, work: Path, threads: int, form: str) -> Embed:
    """An encoder of texts."""
    import numpy as np
    import onnxruntime
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    tokenizer = AutoTokenizer.from_pretrained(work)
    network = ORTModelForFeatureExtraction.from_pretrained(
        work,
        subfolder="onnx",
        file_name={"fp32": "model.onnx", "int8": "model_int8.onnx"}[form],
        session_options=options,
    )

    def embed(texts: list[str]) -> Any:  # an array
        inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="np")
        hidden = network(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].astype(np.float32)
        vectors = (hidden * mask).sum(1) / mask.sum(1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    return in_batches(embed)


if __name__ == "__main__":
    answer(make, ["optimum", "optimum-onnx", "onnxruntime"])
