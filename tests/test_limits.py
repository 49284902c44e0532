"""Inputs far beyond the usual: an answer, or a clear error, in bounded memory. Each in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MAX_PEAK_MB = 1000

LONG = "'Anna met Otto in Berlin; nobody knew, why not? 1999. ' * 19000"  # a million characters
LABELS = {"parameters": {"candidate_labels": ["work", "travel", "love"]}}
NLI = {"id2label": {"0": "contradiction", "1": "neutral", "2": "entailment"}, "num_labels": 3}

# task -> head, config, an expression for one very long input, keywords of the call
CASES: dict[str, tuple[str, dict[str, object], str, dict[str, object]]] = {
    # an hour
    "audio-classification": (
        "ForAudioClassification",
        {},
        "{'array': __import__('numpy').zeros(3600 * 16_000, 'float32'), 'sampling_rate': 16_000}",
        {},
    ),
    "feature-extraction": ("", {}, LONG, {}),
    # as many pixels as are accepted
    "image-classification": (
        "ForImageClassification",
        {},
        "__import__('PIL.Image').Image.new('RGB', (2**13, 2**13), 'teal')",
        {},
    ),
    "sentence-similarity": ("", {}, f"{{'source_sentence': 'Anna', 'sentences': [{LONG}]}}", {}),
    "text-classification": ("ForSequenceClassification", {}, LONG, {}),
    "token-classification": ("ForTokenClassification", {}, LONG, {"parameters": {"stride": 16}}),
    "question-answering": ("ForQuestionAnswering", {}, f"{{'question': 'Who?', 'context': {LONG}}}", {}),
    "fill-mask": ("ForMaskedLM", {}, f"'[MASK]' + {LONG}", {}),
    "zero-shot-classification": ("ForSequenceClassification", NLI, LONG, LABELS),
    "table-question-answering": (
        "ForTableQuestionAnswering",
        {},
        "{'query': 'Which?', 'table': {f'c{c}': [f'{c} of {r}' for r in range(100)] for c in range(50)}}",
        {},
    ),
}
SCRIPT = """
import json, sys
import onnxpipe
from onnxpipe.errors import InvalidInput
folder, task, inputs, parameters = sys.argv[1:]
try:
    answer = onnxpipe.load(folder, task=task)(eval(inputs), **json.loads(parameters))
    outcome = len(answer) if isinstance(answer, list) else 1
except InvalidInput as error:
    outcome = str(error)
# not ru_maxrss, which starts with that of the process that forked
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps([outcome, int(status["VmHWM"].split()[0]) / 1024]))
"""


@pytest.fixture
def ask(tiny_bundle: Callable[..., Path]) -> Callable[[str, str], object]:
    """The outcome of a task on an expression, peak memory checked."""

    def run(task: str, inputs: str) -> object:
        head, config, _, keywords = CASES[task]
        family = {
            "audio-classification": "ast",
            "image-classification": "vit",
            "table-question-answering": "tapas",
        }.get(task, "bert")
        arguments = [str(tiny_bundle(family, head, **config)), task, inputs, json.dumps(keywords.get("parameters", {}))]
        done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outcome, peak_mb = json.loads(done.stdout)
        assert peak_mb < MAX_PEAK_MB
        return outcome

    return run


@pytest.mark.parametrize("task", CASES)
def test_one_very_long_input_has_an_answer_in_bounded_memory(task: str, ask: Callable[[str, str], object]) -> None:
    outcome = ask(task, CASES[task][2])
    assert isinstance(outcome, int)
    assert outcome > 0


@pytest.mark.parametrize("task", CASES)
def test_ten_thousand_inputs_have_ten_thousand_answers(task: str, ask: Callable[[str, str], object]) -> None:
    short = {
        "sentence-similarity": "{'source_sentence': 'Anna', 'sentences': ['Otto']}",
        "question-answering": "{'question': 'Who?', 'context': 'Anna met Otto.'}",
        "fill-mask": "'Anna met [MASK].'",
        "table-question-answering": "{'query': 'Which?', 'table': {'a': ['1']}}",
        "audio-classification": "{'array': __import__('numpy').zeros(4000, 'float32'), 'sampling_rate': 16_000}",
        "image-classification": "__import__('numpy').zeros((8, 8), 'uint8')",
    }.get(task, "'Anna met Otto.'")
    assert ask(task, f"[{short}] * 10_000") == 10_000
