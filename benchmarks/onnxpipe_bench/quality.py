"""Accuracy on real tasks: MiniLM fine-tuned here, then torch beside every precision of its bundle.

    python -m onnxpipe_bench.quality --model MINILM_FOLDER [--cache .cache/quality] [--task NAME ...]

Topics, sentiment and entailment are scored by accuracy, entities by F1 over whole entities; in points, with 95 %
intervals from resampling the test examples. Models and bundles are kept in the cache.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.load import load_model, make_pipeline
from onnxpipe_bench.datasets import DATASETS, Dataset, Example
from onnxpipe_bench.finetune import finetune
from onnxpipe_bench.measure import write_result
from onnxpipe_export.export import export

Floats = NDArray[np.float64]
Answers = list[tuple[str, ...]]  # per example its label, or the tag of each word

_RESAMPLES = 2000


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a model is trained."""

    epochs: int
    learning_rate: float


RECIPES = {
    "topics": Recipe(1, 2e-4),
    "sentiment": Recipe(2, 2e-4),
    "entailment": Recipe(6, 2e-4),
    "entities": Recipe(10, 4e-4),
}


def main() -> None:
    """Train what is missing, measure every engine and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the folder of MiniLM in hub layout")
    parser.add_argument("--cache", type=Path, default=Path(".cache/quality"))
    parser.add_argument("--task", action="append", choices=list(DATASETS), help="repeatable; all when absent")
    args = parser.parse_args()
    rows = []
    for name in args.task or DATASETS:
        dataset = DATASETS[name]()
        model, bundle = args.cache / name / "model", args.cache / name / "bundle"
        if not (model / "model.safetensors").is_file():
            recipe = RECIPES[name]
            finetune(args.model, dataset, model, epochs=recipe.epochs, learning_rate=recipe.learning_rate)
        export(model, bundle, bundle_id=f"minilm-{name}", force=True)
        answers = {"torch": torch_answers(model, dataset.test)}
        for precision in load_model(bundle).bundle.manifest.variants:
            answers[precision] = bundle_answers(bundle, precision, dataset.test)
        for row in compare(dataset, answers):
            rows.append({"task": name, "examples": len(dataset.test), **row})
            print("  ".join(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
    print(f"-> {write_result('quality', {'model': 'MiniLM-L6 fine-tuned', 'rows': rows})}")


def compare(dataset: Dataset, answers: dict[str, Answers]) -> list[dict[str, Any]]:
    """A row per engine: its score, its difference to the first engine, and the share of equal answers."""
    reference = next(iter(answers))
    counts = {
        engine: np.array([count(*pair) for pair in zip(dataset.test, given, strict=True)])
        for engine, given in answers.items()
    }
    samples = np.random.default_rng(0).integers(0, len(dataset.test), (_RESAMPLES, len(dataset.test)))
    rows = []
    for engine, given in answers.items():
        differences = [score(counts[engine][sample]) - score(counts[reference][sample]) for sample in samples]
        equal = np.mean([left == right for left, right in zip(given, answers[reference], strict=True)])
        rows.append(
            {
                "engine": engine,
                "score": round(score(counts[engine]), 2),
                "interval": _interval([score(counts[engine][sample]) for sample in samples]),
                "difference": round(score(counts[engine]) - score(counts[reference]), 2),
                "difference_interval": _interval(differences),
                "same_answers": round(100 * float(equal), 2),
            }
        )
    return rows


def count(example: Example, answer: tuple[str, ...]) -> tuple[int, int, int]:
    """What was right, what was answered and what was to be found: entities, or the one label."""
    if not example.tags:
        return int(answer == (example.label,)), 1, 1
    found, wanted = spans(answer), spans(example.tags)
    return len(found & wanted), len(found), len(wanted)


def score(counts: NDArray[np.int64]) -> float:
    """F1 in points over rows of `count`; with one answer per example that is the accuracy."""
    right, answered, wanted = counts.sum(axis=0)
    return 200 * float(right) / max(1, int(answered + wanted))


def spans(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """The entities of B-/I- tags: first word, word behind the last, kind. An I- that continues nothing begins one."""
    found = set()
    start, kind = 0, ""
    for place, tag in enumerate((*tags, "O")):
        prefix, _, name = tag.partition("-")
        if kind and (prefix != "I" or name != kind):
            found.add((start, place, kind))
            kind = ""
        if prefix != "O" and not kind:
            start, kind = place, name
    return found


def torch_answers(folder: Path, examples: Sequence[Example]) -> Answers:
    """transformers' own pipeline, one example at a time."""
    import transformers

    if examples[0].tags:
        tagger = transformers.pipeline(
            "token-classification", str(folder), aggregation_strategy="none", ignore_labels=[], device="cpu"
        )
        return [
            _word_tags(example, [(item["start"], item["entity"]) for item in tagger(example.text)])
            for example in examples
        ]
    classify = transformers.pipeline("text-classification", str(folder), device="cpu")
    return [
        (classify({"text": example.text, "text_pair": example.pair}, truncation=True)["label"],) for example in examples
    ]


def bundle_answers(bundle: Path, precision: str, examples: Sequence[Example]) -> Answers:
    """onnxpipe, all examples in one call."""
    model = load_model(bundle, precision=precision)
    if examples[0].tags:
        tagger = make_pipeline(model)
        answers = tagger([example.text for example in examples], aggregation_strategy="none", ignore_labels=[])
        pairs = zip(examples, answers, strict=True)
        return [_word_tags(example, [(item.start, item.entity) for item in answer]) for example, answer in pairs]
    classify = make_pipeline(model, "text-classification")
    labels = classify([{"text": example.text, "text_pair": example.pair} for example in examples], top_k=1)
    return [(answer[0].label,) for answer in labels]


def _word_tags(example: Example, tokens: Sequence[tuple[int, str]]) -> tuple[str, ...]:
    """The tag of each word: that of the token that starts where the word does; "O" for words that were cut off."""
    by_start = dict(reversed(tokens))
    starts = np.cumsum([0, *(len(word) + 1 for word in example.words)])
    return tuple(by_start.get(int(start), "O") for start in starts[:-1])


def _interval(values: list[float]) -> list[float]:
    return [round(float(value), 2) for value in np.percentile(values, [2.5, 97.5])]


if __name__ == "__main__":
    main()
