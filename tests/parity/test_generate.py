"""Whole texts beside transformers 4.57.6 `generate`, through the exported graphs and the token loop, for every family.

The reference gets the prompts in left-padded batches, we get them all at once. Tokens must be the same. Where float
rounding decides both results stand: greedy texts may part where the reference's two best scores are as good as equal,
beams may differ whose scores are the same to 1e-4.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="parity needs the export extra")
import torch
import transformers

from generation_zoo import BY_LENGTH, CAUSAL, FIRST_TOKEN, SEQ2SEQ, VOCABULARY, draw
from onnxpipe.bundle import Graph
from onnxpipe.generation.batch import Batch
from onnxpipe.generation.decoder import Decoder
from onnxpipe.generation.loop import Job, TokenLoop
from onnxpipe.generation.options import resolve
from onnxpipe.generation.results import Generated
from onnxpipe.generation.search import make_search
from onnxpipe.session import Session
from onnxpipe_export.convert import describe_graph
from onnxpipe_export.generation.exporter import GenerationExporter
from onnxpipe_export.generation_sections import reread_at
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.recipe import Recipe

KINDS = {**CAUSAL, **BY_LENGTH, **SEQ2SEQ}
TOGETHER = 8
EOS, PAD = 7, 0
# padding is penalised in the reference like a token of the prompt, which shows when it is one of a text
SUPPRESSED = [PAD, 8, 10]
# seven groups of eight prompts: 56 for each family
OPTIONS: list[dict[str, Any]] = [
    {"max_new_tokens": 16},
    {"max_new_tokens": 10, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "min_new_tokens": 4},
    {"max_new_tokens": 8, "num_beams": 2},
    {"max_new_tokens": 10, "num_beams": 4, "num_return_sequences": 3, "length_penalty": 2.0, "early_stopping": True},
    {"max_new_tokens": 8, "num_beams": 8, "num_return_sequences": 2, "early_stopping": "never", "length_penalty": 0.5},
    {"max_new_tokens": 8, "num_beams": 3, "bad_words_ids": [[9], [11, 12]], "no_repeat_ngram_size": 2},
    {"max_new_tokens": 8, "num_beams": 5, "min_new_tokens": 3, "repetition_penalty": 1.2},
]


@pytest.fixture(scope="module", autouse=True)
def quiet():
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


class Engine:
    """The graphs of a model in a loop."""

    def __init__(self, model, folder):
        recipe = Recipe(task="text-generation", auto_class="", exporter_task="", judge="choices", tolerance={})
        files = GenerationExporter().export(Loaded(None, model), recipe, folder)
        sessions = {name: Session(file, threads=1) for name, file in files.items()}
        graph = describe_graph(files["decoder"], recipe, {})
        presents = Graph(inputs=graph.inputs, outputs=graph.outputs)
        self.encoder = sessions.get("encoder")
        self.reread_at = reread_at(model.config)
        self.loop = TokenLoop(lambda width: Batch(Decoder(sessions["decoder"], presents, width)), budget_bytes=2**30)

    def write(self, prompts, start, given: Mapping[str, Any]) -> list[list[Generated]]:
        options = resolve({**given, "eos_token_id": EOS, "suppress_tokens": SUPPRESSED})
        jobs = []
        for ids in prompts:
            prompt = ids if self.encoder is None else np.array([start])
            total = options.total_length(len(prompt))
            search = make_search(options, prompt, max_length=total, source=ids)
            encode = None if self.encoder is None else self._encode(ids)
            jobs.append(Job(search, prompt, options.rows, total, encode, reread_at=self.reread_at))
        self.loop.run(jobs)
        return [job.search.results() for job in jobs]

    def _encode(self, ids):
        feeds = {"input_ids": ids[None], "attention_mask": np.ones((1, len(ids)), np.int64)}
        return lambda: {name: array[0] for name, array in self.encoder.run(feeds).items()}


def generate(model, prompts, given):
    """The reference's texts of each prompt, without prompt and padding, and their scores (greedy: of all steps)."""
    width = max(map(len, prompts))
    ids, mask = np.full((len(prompts), width), PAD), np.zeros((len(prompts), width), np.int64)
    for row, prompt in enumerate(prompts):
        # an encoder counts positions from the left, padding or not
        own = slice(len(prompt)) if model.config.is_encoder_decoder else slice(width - len(prompt), width)
        ids[row, own], mask[row, own] = prompt, 1
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        answer = model.generate(
            torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            return_dict_in_generate=True,
            output_scores=True,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=PAD,
            suppress_tokens=SUPPRESSED,
            **given,
        )
    begin = 1 if model.config.is_encoder_decoder else width
    texts = [strip(row[begin:].tolist()) for row in answer.sequences]
    count = given.get("num_return_sequences", 1)
    groups = [texts[index : index + count] for index in range(0, len(texts), count)]
    if "num_beams" in given:
        scores = answer.sequences_scores.reshape(-1, count).tolist()
    else:
        scores = torch.stack(answer.scores, 1).numpy()
    return groups, scores


def strip(ids):
    return ids[: ids.index(EOS) + 1] if EOS in ids else ids


def same_greedy(found: Generated, expected: list[int], scores: np.ndarray) -> bool:
    """Whether two texts are the same, or part where the scores of the step (T, V) are as good as equal."""
    given = found.ids.tolist()
    for place, (ours, theirs) in enumerate(zip(given, expected, strict=False)):
        if ours != theirs:
            return bool(scores[place, theirs] - scores[place, ours] < 1e-4 * max(1.0, abs(scores[place, theirs])))
    return len(given) == len(expected)


@pytest.mark.parametrize("name", KINDS)
def test_texts_are_those_of_the_reference(name, tmp_path):
    # the reference fails where a decoder has more layers than its encoder: it makes a cache of as many as that has
    layers = "num_decoder_layers" if "t5" in name else "decoder_layers"
    model = draw(KINDS[name], **({layers: 2} if name in SEQ2SEQ else {}))
    model.generation_config = transformers.GenerationConfig(decoder_start_token_id=3)
    engine = Engine(model, tmp_path)
    generator = np.random.default_rng(5)
    # where frequencies change with the length, the reference computes a padded batch's by its longest row
    together = 1 if name in BY_LENGTH else TOGETHER
    for given in OPTIONS:
        prompts = [
            generator.integers(FIRST_TOKEN + 3, VOCABULARY - 3, generator.integers(1, 14)) for _ in range(TOGETHER)
        ]
        assert_same(lambda: model, engine, prompts, given, together)


@pytest.mark.parametrize("name", BY_LENGTH)
def test_texts_around_the_length_at_which_frequencies_change_are_those_of_the_reference(name, tmp_path, monkeypatch):
    """The border is at 16 tokens: some grow past it together, at once or later, others are read in pieces behind it."""
    monkeypatch.setattr("onnxpipe.generation.loop._CHUNK_ALONE", 7)
    monkeypatch.setattr("onnxpipe.generation.loop._CHUNK_BESIDE_OTHERS", 5)

    def make():
        model = draw(BY_LENGTH[name])
        model.generation_config = transformers.GenerationConfig()
        return model

    engine = Engine(make(), tmp_path)
    generator = np.random.default_rng(6)
    lengths = (3, 9, 14, 15, 16, 17, 18, 29)
    for given in OPTIONS:
        prompts = [generator.integers(FIRST_TOKEN + 3, VOCABULARY - 3, length) for length in lengths]
        # a fresh model each time: dynamic ones remember the longest text that they have seen, beyond its end
        assert_same(make, engine, prompts, given, 1)


def assert_same(make, engine, prompts, given, together):
    """Our texts of all prompts are the reference's, whose models `make` gives for so many prompts `together`."""
    ours = engine.write(prompts, 3, given)
    for begin in range(0, len(prompts), together):
        groups, scores = generate(make(), prompts[begin : begin + together], given)
        for found, expected, score in zip(ours[begin : begin + together], groups, scores, strict=True):
            if "num_beams" not in given:
                assert same_greedy(found[0], expected[0], score), (given, found, expected)
                continue
            assert len(found) == len(expected)
            for text, other, theirs in zip(found, expected, score, strict=True):
                assert text.score == pytest.approx(theirs, abs=1e-4, rel=1e-4), (given, text, other)
                assert (
                    text.ids.tolist() == other
                    or len(set(np.round(score, 3))) < len(score)
                    or (text.score == pytest.approx(theirs, abs=1e-5, rel=1e-5))
                ), (given, text, other)
