"""Searches beside transformers 4.57.6 `generate`, on logits of tiny random torch models without any graph.

Our search gets logits of the whole rows each step. Tokens must be the same. Where float rounding decides between two
tokens or two beams, both results stand: tokens that differ pass only when their scores are the same to 1e-4, or to
2e-6 of scores beyond 50, of which float32 keeps no more.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="parity needs the export extra")
import torch
import transformers
from transformers.generation.beam_search import BeamSearchScorer
from transformers.generation.logits_process import HammingDiversityLogitsProcessor

from onnxpipe.generation.options import GenerationOptions, resolve
from onnxpipe.generation.results import Generated, LogprobOptions, Stops
from onnxpipe.generation.sampling import draw, draw_several, make_generators
from onnxpipe.generation.search import make_search

VOCABULARY, PAD, EOS = 40, 0, (1, 2)
Model = transformers.PreTrainedModel


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(level)


def sharpen(model: Model) -> Model:
    """A model whose distributions are far from uniform, and that ends its texts now and then."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
        head = model.get_output_embeddings()
        head.weight.mul_(1.5)
        if head.bias is not None:
            head.bias.zero_()
    return model.eval()


@pytest.fixture(scope="module")
def decoder_only() -> Model:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=128, **sizes)
    return sharpen(transformers.LlamaForCausalLM(config))


@pytest.fixture(scope="module")
def encoder_decoder() -> Model:
    torch.manual_seed(1)
    layers = {"encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    config = transformers.BartConfig(
        vocab_size=VOCABULARY, max_position_embeddings=128, decoder_start_token_id=3, **layers, **widths
    )
    model = sharpen(transformers.BartForConditionalGeneration(config))
    model.generation_config = transformers.GenerationConfig(decoder_start_token_id=3)
    return model


def logits_of(model: Model, source: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Logits (R, V) behind rows of the decoder's tokens (R, T)."""
    with torch.no_grad():
        if not model.config.is_encoder_decoder:
            return model(torch.tensor(rows)).logits[:, -1].numpy()
        encoder_ids = torch.tensor(np.broadcast_to(source, (len(rows), len(source))))
        return model(input_ids=encoder_ids, decoder_input_ids=torch.tensor(rows)).logits[:, -1].numpy()


def search(model: Model, prompt: np.ndarray, options: GenerationOptions, stops: Stops | None = None) -> list[Generated]:
    """Our texts for one input."""
    start = np.array([3]) if model.config.is_encoder_decoder else prompt
    limit = options.total_length(len(start))
    found = make_search(options, start, max_length=limit, source=prompt, stops=stops, logprobs=LogprobOptions())
    rows = start[None]
    while found.rows:
        assert found.rows == len(rows) <= options.rows
        step = found.step(logits_of(model, prompt, rows))
        rows = np.concatenate([rows[step.parents], step.tokens[:, None]], axis=1)
    return found.results()


def generate(model: Model, prompt: np.ndarray, options: Mapping[str, Any]) -> tuple[list[list[int]], Any]:
    """The reference's texts without prompt and padding, and its whole answer."""
    given = {"pad_token_id": PAD, "top_k": 0, **options}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        answer = model.generate(torch.tensor(prompt)[None], return_dict_in_generate=True, output_scores=True, **given)
    begin = 1 if model.config.is_encoder_decoder else len(prompt)
    return [strip(ids[begin:].tolist(), given) for ids in answer.sequences], answer


def strip(ids: list[int], options: Mapping[str, Any]) -> list[int]:
    """The tokens up to the first that ends the text."""
    ends = [place for place, token in enumerate(ids) if token in options.get("eos_token_id", EOS)]
    return ids[: ends[0] + 1] if ends else ids


def draw_prompt(generator: np.random.Generator) -> np.ndarray:
    return generator.integers(3, VOCABULARY, size=generator.integers(1, 9))


def draw_options(generator: np.random.Generator, *, beams: bool) -> dict[str, Any]:
    """Options as both libraries name them, each with some chance."""
    possible: dict[str, Callable[[], Any]] = {
        "repetition_penalty": lambda: float(generator.choice([0.8, 1.1, 1.5])),
        "no_repeat_ngram_size": lambda: int(generator.integers(1, 4)),
        "encoder_no_repeat_ngram_size": lambda: int(generator.integers(1, 3)),
        "bad_words_ids": lambda: generator.integers(3, VOCABULARY, size=(6, generator.integers(1, 3))).tolist(),
        "min_length": lambda: int(generator.integers(1, 12)),
        "min_new_tokens": lambda: int(generator.integers(1, 6)),
        "forced_eos_token_id": lambda: 2,
        "suppress_tokens": lambda: generator.integers(8, VOCABULARY, size=4).tolist(),
        "begin_suppress_tokens": lambda: generator.integers(1, VOCABULARY, size=4).tolist(),
        "sequence_bias": lambda: [[[5], 1.5], [[6, 7], -2.0], [[1], float(generator.normal(scale=2))]],
        "renormalize_logits": lambda: True,
        "remove_invalid_values": lambda: True,
    }
    chosen = {name: make() for name, make in possible.items() if generator.random() < 0.2}
    chosen["eos_token_id"] = list(EOS[: generator.integers(1, 3)])
    if generator.random() < 0.5:
        chosen["max_new_tokens"] = int(generator.integers(chosen.get("min_new_tokens", 1), 16))
    else:
        chosen["max_length"] = int(generator.integers(12, 20))
    if beams:
        chosen["num_beams"] = int(generator.integers(2, 9))
        chosen["num_return_sequences"] = int(generator.integers(1, chosen["num_beams"] + 1))
        chosen["length_penalty"] = float(generator.choice([-1.0, 0.0, 0.5, 1.0, 2.0]))
        chosen["early_stopping"] = [True, False, "never"][generator.integers(3)]
    return chosen


def assert_same_greedy(ours: Generated, theirs: list[int], scores: tuple[torch.Tensor, ...], note: object) -> None:
    """The same tokens up to one where two have the same score."""
    for place, (token, expected) in enumerate(zip(ours.ids.tolist(), theirs, strict=False)):
        if token != expected:
            assert abs(scores[place][0, token] - scores[place][0, expected]) < 1e-4, note
            return
    assert ours.ids.tolist() == theirs, note


def assert_same_beams(ours: list[Generated], theirs: list[list[int]], scores: list[float], note: object) -> None:
    """The same scores to 1e-4 and the same texts, but for texts with the same score in another order.

    Where fewer texts than asked for can be written, the reference repeats some with scores around -1e9.
    """
    written = [place for place, score in enumerate(scores) if score > -1e8]
    theirs, scores = [theirs[place] for place in written], [scores[place] for place in written]
    assert [text.score for text in ours] == pytest.approx(scores, abs=1e-4, rel=2e-6), note
    for text, expected, score in zip(ours, theirs, scores, strict=True):
        if text.ids.tolist() != expected:
            equals = [
                other
                for other, value in zip(theirs, scores, strict=True)
                if value == pytest.approx(score, abs=1e-4, rel=2e-6)
            ]
            assert len(equals) > 1, note
            assert text.ids.tolist() in equals, note


@pytest.mark.parametrize("kind", ["decoder_only", "encoder_decoder"])
def test_greedy_search_writes_the_references_tokens(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    generator = np.random.default_rng(5)
    reasons = set()
    for _ in range(80):
        prompt, options = draw_prompt(generator), draw_options(generator, beams=False)
        if kind == "encoder_decoder" and generator.random() < 0.3:
            options["forced_bos_token_id"] = 7
        (theirs,), answer = generate(model, prompt, options)
        (ours,) = search(model, prompt, resolve(options))
        assert_same_greedy(ours, theirs, answer.scores, (prompt, options))
        assert ours.finish_reason == ("eos_token" if theirs[-1] in options["eos_token_id"] else "length")
        reasons.add(ours.finish_reason)
    assert reasons == {"eos_token", "length"}


@pytest.mark.parametrize("kind", ["decoder_only", "encoder_decoder"])
def test_beam_search_finds_the_references_texts_and_scores(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    generator = np.random.default_rng(6)
    for _ in range(120):
        prompt, options = draw_prompt(generator), draw_options(generator, beams=True)
        if kind == "encoder_decoder" and generator.random() < 0.3:
            options["forced_bos_token_id"] = 7
        theirs, answer = generate(model, prompt, options)
        ours = search(model, prompt, resolve(options))
        assert_same_beams(ours, theirs, answer.sequences_scores.tolist(), (prompt, options))
        for text in ours:
            assert text.logprobs is not None
            total = float(text.logprobs.sum()) / len(text.ids) ** options["length_penalty"]
            assert total == pytest.approx(text.score, rel=1e-4, abs=1e-4)


def test_texts_that_a_callback_ends_are_the_references(decoder_only: Model) -> None:
    """A callback stands for stop strings: here an odd token behind one above 20."""

    def stopped(ids: list[int]) -> bool:
        return len(ids) > 1 and ids[-2] > 20 and ids[-1] % 2 == 1

    class Stopped(transformers.StoppingCriteria):
        def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
            return torch.tensor([stopped(ids) for ids in input_ids[:, len(prompt) :].tolist()])

    generator = np.random.default_rng(10)
    ended = 0
    for turn in range(120):
        prompt, options = draw_prompt(generator), draw_options(generator, beams=turn % 4 > 0)
        theirs, answer = generate(decoder_only, prompt, options | {"stopping_criteria": [Stopped()]})
        cut = [next((ids[:end] for end in range(1, len(ids)) if stopped(ids[:end])), ids) for ids in theirs]
        ours = search(decoder_only, prompt, resolve(options), lambda _, ids: stopped(ids.tolist()))
        if "num_beams" in options:
            assert_same_beams(ours, cut, answer.sequences_scores.tolist(), (prompt, options))
        else:
            assert_same_greedy(ours[0], cut[0], answer.scores, (prompt, options))
        ended += sum(text.finish_reason == "stop_sequence" for text in ours)
    assert ended > 50


@pytest.mark.parametrize("kind", ["decoder_only", "encoder_decoder"])
def test_with_the_same_draws_sampling_writes_the_references_texts(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference draws with torch; here its draws are ours, from the probabilities it has made."""
    model = request.getfixturevalue(kind)
    generator = np.random.default_rng(7)
    for seed in range(60):
        prompt, options = draw_prompt(generator), draw_options(generator, beams=False)
        options |= draw_warpers(generator) | {"do_sample": True, "num_return_sequences": int(generator.integers(1, 5))}
        generators = make_generators(seed, options["num_return_sequences"])

        def multinomial(probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
            rows = zip(probabilities.log().numpy(), generators, strict=True)  # noqa: B023 - called in this turn
            return torch.tensor([[draw(row, own)] for row, own in rows])

        with monkeypatch.context() as patch:
            patch.setattr(torch, "multinomial", multinomial)
            theirs, _ = generate(model, prompt, options)
        ours = search(model, prompt, resolve(options | {"seed": seed}))
        assert [text.ids.tolist() for text in ours] == theirs, (prompt, options)


@pytest.mark.parametrize("kind", ["decoder_only", "encoder_decoder"])
def test_with_the_same_draws_beam_sampling_finds_the_references_texts(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = request.getfixturevalue(kind)
    generator = np.random.default_rng(8)
    for seed in range(80):
        prompt = draw_prompt(generator)
        options = draw_options(generator, beams=True) | draw_warpers(generator) | {"do_sample": True}
        (own,) = make_generators(seed, 1)

        def multinomial(probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
            drawn = draw_several(probabilities[0].log().numpy(), num_samples, own)  # noqa: B023 - called in this turn
            missing = np.setdiff1d(np.arange(probabilities.shape[1]), drawn)[: num_samples - len(drawn)]
            return torch.tensor(np.concatenate([drawn, missing]))[None]

        with monkeypatch.context() as patch:
            patch.setattr(torch, "multinomial", multinomial)
            theirs, answer = generate(model, prompt, options)
        ours = search(model, prompt, resolve(options | {"seed": seed}))
        assert_same_beams(ours, theirs, answer.sequences_scores.tolist(), (prompt, options))


def draw_warpers(generator: np.random.Generator) -> dict[str, Any]:
    possible = {
        "temperature": 0.7,
        "top_k": 12,
        "top_p": 0.85,
        "typical_p": 0.8,
        "min_p": 0.02,
        "epsilon_cutoff": 0.01,
        "eta_cutoff": 0.02,
    }
    return {name: value for name, value in possible.items() if generator.random() < 0.3}


def search_groups_by_reference(
    model: Model, prompt: np.ndarray, options: Mapping[str, Any]
) -> tuple[list[list[int]], list[float]]:
    """Diverse beam search as the paper has it, by the reference's scorer and penalty, which outlived its search."""
    beams, groups, limit = options["num_beams"], options["num_beam_groups"], options["max_length"]
    size = beams // groups
    scorer = BeamSearchScorer(
        batch_size=1,
        num_beams=beams,
        device=torch.device("cpu"),
        length_penalty=options["length_penalty"],
        do_early_stopping=options["early_stopping"],
        num_beam_hyps_to_keep=options["num_return_sequences"],
        num_beam_groups=groups,
        max_length=limit,
    )
    diversity = HammingDiversityLogitsProcessor(options["diversity_penalty"], beams, groups)
    eos = torch.tensor(options["eos_token_id"])
    width = max(2, 1 + len(eos)) * size
    rows = torch.tensor(prompt).repeat(beams, 1)
    totals = torch.full((beams,), -1e9)
    totals[::size] = 0
    while not scorer.is_done and rows.shape[1] < limit:
        logprobs = torch.tensor(logits_of(model, prompt, rows.numpy())).log_softmax(dim=-1)
        current = torch.zeros(beams, dtype=torch.long)
        parents = torch.zeros(beams, dtype=torch.long)
        for group in range(groups):
            members = slice(group * size, (group + 1) * size)
            scores = diversity(rows[members], logprobs[members], current, group)
            scores[:, PAD] = -torch.inf  # groups that are done go on with padding, which must not matter
            best, places = (scores + totals[members, None]).flatten().topk(width)
            chosen = scorer.process(
                rows[members],
                best[None],
                (places % VOCABULARY)[None],
                (places // VOCABULARY)[None],
                pad_token_id=PAD,
                eos_token_id=eos,
                group_index=group,
                decoder_prompt_len=len(prompt),
            )
            totals[members], current[members] = chosen["next_beam_scores"], chosen["next_beam_tokens"]
            parents[members] = chosen["next_beam_indices"] + group * size
        rows = torch.cat([rows[parents], current[:, None]], dim=1)
    found = scorer.finalize(
        rows,
        totals,
        current,
        parents,
        max_length=limit,
        pad_token_id=PAD,
        eos_token_id=eos,
        decoder_prompt_len=len(prompt),
    )
    texts = [
        strip([token for token in ids[len(prompt) :].tolist() if token != PAD], options) for ids in found["sequences"]
    ]
    return texts, found["sequence_scores"].tolist()


def test_diverse_beam_search_finds_the_texts_of_the_references_scorer(decoder_only: Model) -> None:
    generator = np.random.default_rng(9)
    for _ in range(150):
        prompt = draw_prompt(generator)
        groups, size = int(generator.integers(2, 5)), int(generator.integers(1, 4))
        options = {
            "num_beams": groups * size,
            "num_beam_groups": groups,
            "num_return_sequences": int(generator.integers(1, min(10, groups * size) + 1)),
            "diversity_penalty": float(generator.choice([0.3, 1.0, 5.0])),
            "length_penalty": float(generator.choice([0.0, 1.0, 2.0])),
            "early_stopping": [True, False, "never"][generator.integers(3)],
            "max_length": len(prompt) + int(generator.integers(1, 12)),
            "eos_token_id": [1],
        }
        theirs, scores = search_groups_by_reference(decoder_only, prompt, options)
        ours = search(decoder_only, prompt, resolve(options | {"suppress_tokens": [PAD]}))
        assert_same_beams(ours, theirs, scores, (prompt, options))
