"""sentence-transformers with its backends. See encoder_loop.

FORM is torch; onnx-int8, its dynamic integers for AVX512 VNNI; openvino, in fp32; or openvino-int8, its static
integers, for which it reads a file of sentences that are made here.
"""

import itertools
from pathlib import Path
from typing import Any

from encoder_loop import Embed, answer  # type: ignore[import-not-found]  # beside this script


def make(model: Path, work: Path, threads: int, form: str) -> Embed:
    """An encoder of texts."""
    from sentence_transformers import SentenceTransformer

    makers = {"torch": _torch, "onnx-int8": _onnx_int8, "openvino": _openvino, "openvino-int8": _openvino_int8}
    network = makers[form](SentenceTransformer, model, work, threads)

    def embed(texts: list[str]) -> Any:  # an array
        return network.encode(texts, show_progress_bar=False)

    return embed


def _torch(cls: Any, model: Path, _work: Path, threads: int) -> Any:  # the library is not in this project's environment
    import torch

    torch.set_num_threads(threads)
    return cls(str(model), device="cpu")


def _onnx_int8(cls: Any, model: Path, work: Path, threads: int) -> Any:  # as above
    import onnxruntime
    from sentence_transformers import export_dynamic_quantized_onnx_model

    file = "model_qint8_avx512_vnni.onnx"
    if not (work / "onnx" / file).exists():
        plain = cls(str(model), device="cpu", backend="onnx", model_kwargs={"export": True})
        plain.save_pretrained(str(work))
        export_dynamic_quantized_onnx_model(plain, "avx512_vnni", str(work))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    given = {"file_name": f"onnx/{file}", "provider": "CPUExecutionProvider", "session_options": options}
    return cls(str(work), device="cpu", backend="onnx", model_kwargs=given)


def _openvino(cls: Any, model: Path, _work: Path, threads: int) -> Any:  # as above
    given = {"export": True, "ov_config": {"INFERENCE_NUM_THREADS": threads}}
    return cls(str(model), device="cpu", backend="openvino", model_kwargs=given)


def _openvino_int8(cls: Any, model: Path, work: Path, threads: int) -> Any:  # as above
    from sentence_transformers import export_static_quantized_openvino_model

    file = "openvino_model_qint8_quantized.xml"
    if not (work / "openvino" / file).exists():
        plain = _openvino(cls, model, work, threads)
        plain.save_pretrained(str(work))
        export_static_quantized_openvino_model(
            plain,
            None,
            str(work),
            dataset_name=str(_sentences(work / "sentences")),
            dataset_config_name="default",
            dataset_split="train",
            column_name="text",
        )
    given = {"file_name": f"openvino/{file}", "ov_config": {"INFERENCE_NUM_THREADS": threads}}
    return cls(str(work), device="cpu", backend="openvino", model_kwargs=given)


def _sentences(folder: Path) -> Path:
    """A data set of 300 sentences: its default one would come from a hub."""
    who = ("A man", "The young woman", "Two children", "The old teacher", "Nobody", "My neighbour's dog")
    does = ("is reading", "was looking for", "has sold", "paints", "cannot remember", "would like to see")
    what = ("a book about trains", "the red car", "some fresh bread", "the results of the election", "a quiet place")
    when = ("in the park.", "before the winter comes!", "on Monday at 8:30.")
    folder.mkdir(parents=True, exist_ok=True)
    texts = [" ".join(parts) for parts in itertools.product(who, does, what, when)][:300]
    (folder / "train.csv").write_text("text\n" + "\n".join(texts) + "\n", encoding="utf-8")
    return folder


if __name__ == "__main__":
    answer(make, ["sentence-transformers", "transformers", "torch", "onnxruntime", "openvino"])
