"""What a manifest says of a model's inputs and outputs: one section for each kind of pre- and post-processing."""

from onnxpipe.sections.audio import Audio, Ctc, Mel, MelScale, Transcription
from onnxpipe.sections.generation import Chat, Generation, SourcePart, Translation
from onnxpipe.sections.text import Activation, Classification, Embedding, Pooling, Table, Text
from onnxpipe.sections.vision import BoxFormat, Detection, Image, Pad, Resample, Resize, Segmentation, Size, Subtask

__all__ = [
    "Activation",
    "Audio",
    "BoxFormat",
    "Chat",
    "Classification",
    "Ctc",
    "Detection",
    "Embedding",
    "Generation",
    "Image",
    "Mel",
    "MelScale",
    "Pad",
    "Pooling",
    "Resample",
    "Resize",
    "Segmentation",
    "Size",
    "SourcePart",
    "Subtask",
    "Table",
    "Text",
    "Transcription",
    "Translation",
]
