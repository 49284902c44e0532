"""MiniLM as graphs in hub layout, made by optimum: `python onnx_graphs.py MODEL FOLDER`, in the environment of optimum.

FOLDER gets the model's tokenizer and, under onnx/, `model.onnx`; `model_int8.onnx`, optimum's dynamic integers for
AVX512 VNNI; and `model_quantized.onnx`, dynamic integers with one scale per tensor, as transformers.js has them (q8).
Peers that take ready-made graphs get these. Needs nothing of this project.
"""

import shutil
import sys
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from transformers import AutoTokenizer


def main() -> None:
    """Make all of them."""
    model, folder = Path(sys.argv[1]), Path(sys.argv[2])
    shutil.rmtree(folder, ignore_errors=True)
    graphs = folder / "onnx"
    network = ORTModelForFeatureExtraction.from_pretrained(model, export=True)
    network.save_pretrained(folder)
    # what sentence-transformers makes of it: the file still says the 128 tokens that the model was trained with
    tokenizer = AutoTokenizer.from_pretrained(model, model_max_length=256)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.init_kwargs.pop("max_length", None)
    tokenizer.save_pretrained(folder)
    ORTQuantizer.from_pretrained(folder, file_name="model.onnx").quantize(
        save_dir=folder,
        file_suffix="int8",
        quantization_config=AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True),
    )
    quantize_dynamic(folder / "model.onnx", folder / "model_quantized.onnx", weight_type=QuantType.QInt8)
    graphs.mkdir()
    for file in folder.glob("*.onnx"):
        shutil.move(file, graphs / file.name)


if __name__ == "__main__":
    main()
