"""Repositories of ready-made graphs, laid out as optimum and transformers.js lay them out on the hub."""

import shutil
from pathlib import Path

import onnxruntime.quantization as quantization
from optimum.exporters.onnx import main_export

from onnxpipe_export.quiet import quiet

# a head of transformers' auto classes -> the exporter's task
TASKS = {
    "": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForQuestionAnswering": "question-answering",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForImageClassification": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "semantic-segmentation",
    "ForImageSegmentation": "image-segmentation",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
}


def lay_out(source: Path, folder: Path, head: str) -> Path:
    """A model folder's fp32 graph and settings as optimum writes them: everything side by side."""
    with quiet():
        main_export(str(source), str(folder), task=TASKS[head], library_name="transformers", do_validation=False)
    for name in ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    if (source / "1_Pooling").is_dir():
        shutil.copytree(source / "1_Pooling", folder / "1_Pooling")
    return folder


def lay_out_for_browsers(source: Path, folder: Path, head: str) -> Path:
    """The same as transformers.js has it: graphs in a folder of their own, and one of 8 bits."""
    lay_out(source, folder, head)
    (folder / "onnx").mkdir()
    (folder / "model.onnx").rename(folder / "onnx/model.onnx")
    quantization.quantize_dynamic(
        folder / "onnx/model.onnx",
        folder / "onnx/model_quantized.onnx",
        per_channel=True,
        reduce_range=True,
        weight_type=quantization.QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gather", "Gemm"],
    )
    return folder
