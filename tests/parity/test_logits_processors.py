"""Distributions after each processor, and after all that options ask for, beside transformers 4.57.6.

Both get the same scores and tokens; probabilities are compared to 1e-5. A token that lies on a limit within float32
rounding may be cut by one and kept by the other. Among scores drawn at random such tokens are too unlikely to matter,
but for `typical_p`, whose limit is a distance: tokens within 2e-5 of it are left out on both sides.
"""

from collections.abc import Callable

import numpy as np
import pytest

pytest.importorskip("torch", reason="parity needs the export extra")
import torch
import transformers
from transformers.generation import logits_process as reference

from onnxpipe.generation import logits, warpers
from onnxpipe.generation.logits import Processor
from onnxpipe.generation.options import resolve
from onnxpipe.generation.processors import make_processors, process

VOCABULARIES = (7, 500, 5000, 49152)
EOS = (3, 5)
SOURCE = np.array([1, 2, 3, 4, 2, 3, 6, 1, 2])

# name -> ours, and the reference's for some number of tokens to keep
WARPERS: dict[str, Callable[[int], tuple[Processor, Callable]]] = {
    "temperature": lambda _: (warpers.temperature(0.7), reference.TemperatureLogitsWarper(0.7)),
    "top_k": lambda keep: (warpers.top_k(50, keep), reference.TopKLogitsWarper(50, min_tokens_to_keep=keep)),
    "top_k 1": lambda keep: (warpers.top_k(1, keep), reference.TopKLogitsWarper(1, min_tokens_to_keep=keep)),
    "top_p 0.9": lambda keep: (warpers.top_p(0.9, keep), reference.TopPLogitsWarper(0.9, min_tokens_to_keep=keep)),
    "top_p 0.3": lambda keep: (warpers.top_p(0.3, keep), reference.TopPLogitsWarper(0.3, min_tokens_to_keep=keep)),
    "min_p": lambda keep: (warpers.min_p(0.05, keep), reference.MinPLogitsWarper(0.05, min_tokens_to_keep=keep)),
    "typical_p 0.9": lambda keep: (
        warpers.typical_p(0.9, keep),
        reference.TypicalLogitsWarper(0.9, min_tokens_to_keep=keep),
    ),
    "typical_p 0.2": lambda keep: (
        warpers.typical_p(0.2, keep),
        reference.TypicalLogitsWarper(0.2, min_tokens_to_keep=keep),
    ),
    "epsilon_cutoff": lambda keep: (
        warpers.epsilon_cutoff(1e-3, keep),
        reference.EpsilonLogitsWarper(1e-3, min_tokens_to_keep=keep),
    ),
    "eta_cutoff": lambda keep: (
        warpers.eta_cutoff(1e-3, keep),
        reference.EtaLogitsWarper(1e-3, min_tokens_to_keep=keep),
    ),
    "renormalize": lambda _: (warpers.renormalize, reference.LogitNormalization()),
}
PENALTIES: dict[str, tuple[Processor, Callable]] = {
    "repetition_penalty": (logits.repetition_penalty(1.3), reference.RepetitionPenaltyLogitsProcessor(1.3)),
    "reward": (logits.repetition_penalty(0.7), reference.RepetitionPenaltyLogitsProcessor(0.7)),
    "no_repeat_ngram 1": (logits.no_repeat_ngram(1), reference.NoRepeatNGramLogitsProcessor(1)),
    "no_repeat_ngram 2": (logits.no_repeat_ngram(2), reference.NoRepeatNGramLogitsProcessor(2)),
    "no_repeat_ngram 4": (logits.no_repeat_ngram(4), reference.NoRepeatNGramLogitsProcessor(4)),
    "encoder_no_repeat_ngram": (
        logits.encoder_no_repeat_ngram(3, SOURCE),
        reference.EncoderNoRepeatNGramLogitsProcessor(3, torch.tensor(SOURCE)[None]),
    ),
    "sequence_bias": (
        logits.sequence_bias({(1,): 2.5, (1, 2): -3.0, (4, 2): 1.5, (2, 2, 2): 7.0, (0, 1, 2): -np.inf}),
        reference.SequenceBiasLogitsProcessor(
            {(1,): 2.5, (1, 2): -3.0, (4, 2): 1.5, (2, 2, 2): 7.0, (0, 1, 2): -np.inf}
        ),
    ),
    "bad_words": (
        logits.bad_words([[6], [3], [1, 2], [2, 4, 1]], EOS),
        reference.NoBadWordsLogitsProcessor([[6], [3], [1, 2], [2, 4, 1]], list(EOS)),
    ),
    "suppress": (logits.suppress([0, 6]), reference.SuppressTokensLogitsProcessor([0, 6])),
    "remove_invalid_values": (logits.remove_invalid_values, reference.InfNanRemoveLogitsProcessor()),
}


def softmax(scores: np.ndarray) -> np.ndarray:
    exact = scores.astype(np.float64)
    shifted = np.exp(exact - exact.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def assert_same(ours: np.ndarray, theirs: torch.Tensor, note: object = "") -> None:
    """The same probabilities to 1e-5, and the same scores where both keep a token."""
    expected = theirs.numpy()
    assert ours.dtype == expected.dtype
    np.testing.assert_allclose(softmax(ours), softmax(expected), atol=1e-5, err_msg=str(note))
    both = np.isfinite(ours) & np.isfinite(expected)
    np.testing.assert_allclose(ours[both], expected[both], rtol=1e-5, atol=1e-5, err_msg=str(note))


def leave_out_edge(ours: np.ndarray, theirs: torch.Tensor, scores: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
    """Both without the tokens whose surprise is as far from the entropy as that of the last token kept."""
    probabilities = softmax(scores)
    surprise = -np.log(np.maximum(probabilities, 1e-300))
    distance = np.abs(surprise - (probabilities * surprise).sum(axis=-1, keepdims=True))
    limit = np.where(np.isfinite(theirs.numpy()), distance, 0).max(axis=-1, keepdims=True)
    edge = np.abs(distance - limit) < 2e-5
    edge &= np.isneginf(ours) != np.isneginf(theirs.numpy())
    assert edge.sum(axis=-1).max() <= 3
    return np.where(edge, np.float32(-np.inf), ours), theirs.masked_fill(torch.tensor(edge), -np.inf)


def draw_scores(generator: np.random.Generator, rows: int, vocabulary: int, width: float) -> np.ndarray:
    scores = generator.normal(scale=width, size=(rows, vocabulary)).astype(np.float32)
    scores[:, generator.integers(vocabulary, size=vocabulary // 10)] = -np.inf  # banned before
    scores[:, 0] = 1.0
    return scores


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
@pytest.mark.parametrize("keep", [1, 3])
@pytest.mark.parametrize("name", WARPERS)
def test_what_is_left_of_a_distribution_equals_the_reference(name: str, keep: int, vocabulary: int) -> None:
    generator = np.random.default_rng([vocabulary, keep])
    for width in (0.1, 1.0, 4.0, 20.0):
        scores = draw_scores(generator, 3, vocabulary, width)
        ours, theirs = WARPERS[name](keep)
        tokens = np.zeros((3, 1), np.int64)
        expected = theirs(torch.tensor(tokens), torch.tensor(scores))
        pair = ours(tokens, scores), expected
        if name.startswith("typical_p"):
            pair = leave_out_edge(*pair, scores)
        assert_same(*pair, (name, keep, vocabulary, width))


@pytest.mark.parametrize("name", ["top_k", "top_p 0.9", "min_p", "typical_p 0.9", "epsilon_cutoff", "eta_cutoff"])
def test_of_equal_scores_the_same_stay_or_in_top_p_as_many(name: str) -> None:
    generator = np.random.default_rng(1)
    for vocabulary in (20, 200, 5000):
        scores = generator.integers(4, size=(4, vocabulary)).astype(np.float32)
        ours, theirs = WARPERS[name](1)
        tokens = np.zeros((4, 1), np.int64)
        expected = theirs(torch.tensor(tokens), torch.tensor(scores)).numpy()
        kept = ours(tokens, scores)
        if name.startswith("top_p"):
            kept, expected = np.sort(kept), np.sort(expected)
        np.testing.assert_array_equal(kept, expected)


@pytest.mark.parametrize("name", PENALTIES)
def test_penalties_and_bans_equal_the_reference(name: str) -> None:
    generator = np.random.default_rng(2)
    ours, theirs = PENALTIES[name]
    for length in (1, 2, 3, 5, 40):
        tokens = generator.integers(7, size=(4, length))
        scores = draw_scores(generator, 4, 1000, 3.0)
        expected = theirs(torch.tensor(tokens), torch.tensor(scores))
        assert_same(ours(tokens, scores), expected, (name, length))


@pytest.mark.parametrize("penalty", [1.4, 0.6])
def test_tokens_of_the_source_are_rewarded_as_in_the_reference(penalty: float) -> None:
    scores = draw_scores(np.random.default_rng(3), 1, 50, 3.0)
    tokens = np.zeros((1, 1), np.int64)
    theirs = reference.EncoderRepetitionPenaltyLogitsProcessor(penalty, torch.tensor(SOURCE)[None])
    expected = theirs(torch.tensor(tokens), torch.tensor(scores))
    assert_same(logits.encoder_repetition_penalty(penalty, SOURCE)(tokens, scores), expected)


def draw_options(generator: np.random.Generator) -> dict:
    """Some of the options that act on scores, as both libraries name them."""
    possible = {
        "repetition_penalty": 1.2,
        "encoder_no_repeat_ngram_size": 3,
        "no_repeat_ngram_size": 2,
        "bad_words_ids": [[4], [1, 2], [3]],
        "sequence_bias": [[[5], 2.0], [[2, 1], -4.0]],
        "min_length": 9,
        "min_new_tokens": 4,
        "forced_bos_token_id": 2,
        "forced_eos_token_id": 5,
        "exponential_decay_length_penalty": (1, 1.3),
        "suppress_tokens": [6, 8],
        "begin_suppress_tokens": [1, 9],
        "remove_invalid_values": True,
        "renormalize_logits": True,
        "do_sample": True,
        "temperature": 0.8,
        "top_k": 12,
        "top_p": 0.85,
        "typical_p": 0.8,
        "min_p": 0.02,
        "epsilon_cutoff": 0.01,
        "eta_cutoff": 0.02,
        "num_beams": 3,
    }
    chosen = {name: value for name, value in possible.items() if generator.random() < 0.4}
    if "exponential_decay_length_penalty" in chosen:  # of a banned end the reference makes no number
        bans = ("min_length", "min_new_tokens", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size")
        chosen = {name: value for name, value in chosen.items() if name not in bans and "forced" not in name}
    return chosen


def test_all_options_together_give_the_references_distribution() -> None:
    generator = np.random.default_rng(4)
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=60, n_positions=64)
    model = transformers.GPT2LMHeadModel(config)
    prompts = {1: np.array([7]), 4: np.array([7, 1, 2, 1])}
    for turn in range(300):
        options = draw_options(generator)
        sampled = {"temperature", "top_k", "top_p", "typical_p", "min_p", "epsilon_cutoff", "eta_cutoff"}
        if not options.get("do_sample"):
            options = {"do_sample": False} | {name: value for name, value in options.items() if name not in sampled}
        prompt = prompts[1 if turn % 2 else 4]
        limit = len(prompt) + 6
        settings = transformers.GenerationConfig(
            **{"top_k": 0, "max_length": limit, "eos_token_id": list(EOS), "pad_token_id": 0, **options}
        )
        if "min_new_tokens" in options:  # as generate does
            settings.min_length = len(prompt) + options["min_new_tokens"]
        model._prepare_special_tokens(settings, kwargs_has_attention_mask=True, device="cpu")
        theirs = model._get_logits_processor(
            settings, input_ids_seq_length=len(prompt), encoder_input_ids=torch.tensor(SOURCE)[None], device="cpu"
        )
        given = {"eos_token_id": EOS, "max_length": 99, **options}
        ours = make_processors(resolve(given), prompt_length=len(prompt), max_length=limit, source=SOURCE)
        for length in range(6):
            rows = generator.integers(10, size=(3, length))
            tokens = np.concatenate([np.broadcast_to(prompt, (3, len(prompt))), rows], axis=1)
            scores = generator.normal(scale=2, size=(3, 60)).astype(np.float32)
            expected = theirs(torch.tensor(tokens), torch.tensor(scores))
            assert_same(process(ours, tokens, scores), expected, (options, length, len(prompt)))
