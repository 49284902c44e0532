"""Facts recorded by transformers' own tests: token scores and the entities they make, without any weights.

What golden/ner_aggregation.json says of whole models needs their weights and is left out, except where it tells their
tokens too.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models

from onnxpipe.bundle import Bundle, FileEntry, Graph, Manifest, Source, Tensor, Variant
from onnxpipe.pipeline import Model
from onnxpipe.records import plain
from onnxpipe.sections import Classification, Text
from onnxpipe.tasks.token_classification import Parameters, TokenClassification
from onnxpipe.text.entities import find_marked_subwords, find_unspaced_subwords

Aggregate = Callable[[Sequence[Mapping], Sequence[str], str], list[dict]]
STRATEGIES = ("none", "simple", "first", "average", "max")


@pytest.fixture(scope="module")
def facts(test_data: Path) -> dict:
    return json.loads((test_data / "golden/ner_aggregation.json").read_text(encoding="utf-8"))


def make_pipeline(folder: Path, labels: Sequence[str], words: Sequence[str]) -> TokenClassification:
    """The task with these labels and this vocabulary; there is no graph to run."""
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=words[0]))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(folder / "tokenizer.json"))
    ids, logits = (Tensor(name=name, dtype="any", shape=()) for name in ("input_ids", "logits"))
    variant = Variant(files={}, batch_invariant=True, measured={}, tolerance={})
    manifest = Manifest(
        format_version=1,
        id="recorded",
        task="token-classification",
        source=Source(model="recorded"),
        graphs={"model": Graph(inputs=(ids,), outputs=(logits,))},
        variants={"fp32": variant},
        text=Text(tokenizer="tokenizer.json"),
        classification=Classification(labels=tuple(labels), activation="softmax"),
        tools={},
        files={"tokenizer.json": FileEntry(size_bytes=0, sha256="")},
    )
    return TokenClassification(Model(Bundle(folder, manifest, ""), "fp32", variant, {}))


@pytest.fixture
def aggregate(tmp_path: Path) -> Aggregate:
    """What the task makes of recorded tokens, their scores given to it as if a model had just answered."""

    def run(tokens: Sequence[Mapping], labels: Sequence[str], strategy: str) -> list[dict]:
        words = list(dict.fromkeys(token["word"] for token in tokens))
        # recorded scores need not add up to 1: what is missing goes to a label of its own
        pipeline = make_pipeline(tmp_path, [*labels, "none of them"], words)
        scores = np.full((tokens[-1]["index"] + 1, len(labels) + 1), 1e-30)
        ids, sequences = np.zeros(len(scores), np.int64), np.full(len(scores), -1)
        offsets = np.zeros((len(scores), 2), np.int64)
        for token in tokens:  # all others pass for special tokens
            place = token["index"]
            given = np.array(token["scores"])[: len(labels)]
            ids[place], offsets[place], sequences[place] = words.index(token["word"]), (token["start"], token["end"]), 0
            scores[place, : len(given)] += given
            scores[place, -1] += max(0.0, 1 - given.sum())
        encoding = SimpleNamespace(ids=ids, offsets=offsets, sequences=sequences)
        parameters = Parameters(aggregation_strategy=strategy)
        return plain(pipeline.postprocess([{"logits": np.log(scores)}], " " * 99, [encoding], parameters))

    return run


def scored(entities: Sequence[Mapping], tolerance: float) -> list[dict]:
    return [{**entity, "score": pytest.approx(entity["score"], abs=tolerance)} for entity in entities]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_recorded_scores_make_the_recorded_entities(strategy: str, facts: dict, aggregate: Aggregate) -> None:
    cases = [case for case in facts["cases"] if strategy in case["expected"]]
    assert cases
    for case in cases:
        entities = aggregate(case["tokens"], list(case["id2label"].values()), strategy)
        tolerance = 5e-4 if case["rounded"] else 1e-6
        assert entities == scored(case["expected"][strategy], tolerance), case["name"]


def test_recorded_subwords_are_those_found(facts: dict) -> None:
    for case in facts["cases"]:
        tokens = case["tokens"]
        offsets = np.array([(token["start"], token["end"]) for token in tokens])
        found = find_marked_subwords([token["word"] for token in tokens], offsets)
        assert found.tolist() == [token["is_subword"] for token in tokens], case["name"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_real_models_tokens_make_its_entities(strategy: str, facts: dict, aggregate: Aggregate) -> None:
    recorded = [model["all"] for model in facts["model_level"] if "all" in model]
    assert recorded
    for answers in recorded:
        labels = sorted({token["entity"] for token in answers["none"]})
        tokens = [
            {**token, "scores": [token["score"] * (token["entity"] == label) for label in labels]}
            for token in answers["none"]
        ]
        # the scores that go in are rounded to three digits, as those that come out
        assert aggregate(tokens, labels, strategy) == scored(answers[strategy], 1.1e-3)


def test_special_tokens_are_left_out_and_places_counted_with_them(facts: dict, aggregate: Aggregate) -> None:
    case, _ = facts["gather_pre_entities"]
    words = case["sentence"].split()
    tokens = [
        {"index": index, "word": words.pop(0), "start": start, "end": end, "scores": scores}
        for index, (special, (start, end), scores) in enumerate(
            zip(case["special_tokens_mask"], case["offsets"], case["scores"], strict=True)
        )
        if not special
    ]
    given = aggregate(tokens, ["A", "B", "C"], "none")
    for entity, expected in zip(given, case["expected"], strict=True):
        best = int(np.argmax(expected["scores"]))
        assert entity == {
            "entity": "ABC"[best],
            "score": pytest.approx(expected["scores"][best]),
            **{name: expected[name] for name in ("index", "word", "start", "end")},
        }


def test_without_marks_a_word_begins_at_a_space(facts: dict) -> None:
    _, case = facts["gather_pre_entities"]
    ends = np.cumsum([len(word) for word, _ in case["expected_word_is_subword"]]) - 1  # the first mark has no space
    offsets = np.stack([np.maximum(0, np.append(0, ends[:-1])), ends], axis=-1)
    found = find_unspaced_subwords(case["sentence"], offsets)
    assert found.tolist() == [expected for _, expected in case["expected_word_is_subword"]]
