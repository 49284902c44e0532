import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import onnxpipe
from onnxpipe.load import task_names

HEAVY = {
    "torch",
    "transformers",
    "optimum",
    "onnx",
    "fastapi",
    "starlette",
    "pydantic",
    "uvicorn",
    "pandas",
    "librosa",
    "scipy",
    "huggingface_hub",
}
# one grey pixel
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
# at the model's own rate, which takes no library of sound
SOUND = {"array": [0.5, -0.5], "sampling_rate": 16_000}
INPUTS = {
    "audio-classification": SOUND,
    "automatic-speech-recognition": SOUND,
    "conversational": {"text": "one"},
    "feature-extraction": "one two",
    "fill-mask": "one [MASK]",
    "image-classification": PICTURE,
    "image-segmentation": PICTURE,
    "object-detection": PICTURE,
    "question-answering": {"question": "one", "context": "two three"},
    "summarization": "one two",
    "text-generation": "one two",
    "text2text-generation": "one two",
    "translation": "one two",
    "sentence-similarity": {"source_sentence": "one", "sentences": ["two"]},
    "table-question-answering": {"query": "which", "table": {"all": ["yes", 5]}},
    "text-classification": {"text": "one", "text_pair": "two"},
    "token-classification": "one two",
    "zero-shot-classification": "one two",
}
PARAMETERS = {"zero-shot-classification": {"candidate_labels": ["one", "two"]}}
# the fixture that writes a task's bundle, and its keywords; embedding_bundle for the others
BUNDLES = {
    "audio-classification": ("audio_classification_bundle", {}),
    "automatic-speech-recognition": ("spelling_bundle", {"sampling_rate": 16_000}),
    "conversational": ("writing_bundle", {"tasks": ["conversational"]}),
    **{
        task: ("writing_bundle", {"tasks": [task], "encoder": True})
        for task in ("summarization", "text2text-generation", "translation")
    },
    "text-generation": ("writing_bundle", {"tasks": ["text-generation"]}),
    "fill-mask": ("fill_mask_bundle", {}),
    "image-classification": ("image_classification_bundle", {}),
    "image-segmentation": ("segmentation_bundle", {}),
    "object-detection": ("detection_bundle", {"logits": np.zeros((1, 3)), "boxes": np.zeros((1, 4))}),
    "question-answering": ("answering_bundle", {}),
    "table-question-answering": ("table_bundle", {}),
    "text-classification": ("classification_bundle", {}),
    "token-classification": ("tagging_bundle", {}),
    "zero-shot-classification": ("classification_bundle", {"tasks": ["zero-shot-classification"]}),
}
SCRIPT = """
import sys
import onnxpipe
if len(sys.argv) > 1:
    folder, task, inputs, parameters = sys.argv[1:]
    onnxpipe.load(folder, task=task, threads=1)(eval(inputs), **eval(parameters))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def modules_after(*arguments):
    """Top-level modules that a fresh process has loaded after importing onnxpipe and calling a task."""
    environment = os.environ | {"PYTHONPATH": str(Path(onnxpipe.__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return set(process.stdout.split())


def test_importing_onnxpipe_loads_nothing_heavy():
    loaded = modules_after()
    assert loaded & HEAVY == set()
    assert "numpy" in loaded
    assert not loaded & {"onnxruntime", "tokenizers", "PIL"}


@pytest.mark.parametrize("task", sorted(INPUTS))
def test_calling_a_task_loads_nothing_heavy(task, request):
    fixture, keywords = BUNDLES.get(task, ("embedding_bundle", {}))
    folder = request.getfixturevalue(fixture)(**keywords)
    loaded = modules_after(str(folder), task, repr(INPUTS[task]), repr(PARAMETERS.get(task, {})))
    assert loaded & HEAVY == set()
    # texts do not pay for pictures, nor pictures for texts, nor sounds for either
    assert {"tokenizers", "PIL"} & loaded == (
        set() if INPUTS[task] is SOUND else {"PIL" if INPUTS[task] is PICTURE else "tokenizers"}
    )


def test_no_task_is_forgotten_here():
    assert sorted(INPUTS) == task_names()
