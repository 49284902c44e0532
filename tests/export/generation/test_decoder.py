import numpy as np
import pytest
import torch
import transformers

from generation_zoo import (
    BY_LENGTH,
    CAUSAL,
    MAX_LENGTH,
    VOCABULARY,
    Decoder,
    draw,
    error,
    random_tokens,
    reference_logits,
)

TOLERANCE = 2e-5  # of the largest logit


@pytest.mark.parametrize("name", CAUSAL)
def test_a_prompt_gives_transformers_logits_at_any_of_its_positions(traced, name):
    model, files = traced(name)
    prompt = random_tokens(13)
    found = Decoder(files["decoder"], rows=1, size=24).run([prompt], [0], positions=(0, 7, 12))
    assert error(found[0], reference_logits(model, prompt)[[0, 7, 12]]) < TOLERANCE


@pytest.mark.parametrize("name", CAUSAL)
def test_a_prompt_in_chunks_gives_the_logits_of_the_whole(traced, name):
    model, files = traced(name)
    prompt, decoder = random_tokens(19), Decoder(files["decoder"], rows=3, size=24)
    for begin, end in ((0, 7), (7, 8), (8, 15), (15, 19)):
        found = decoder.run([prompt[begin:end]], [begin], first=1)
    assert error(found[0], reference_logits(model, prompt)[-1:]) < TOLERANCE


@pytest.mark.parametrize("name", CAUSAL)
def test_rows_of_different_lengths_decode_together_as_each_alone(traced, name):
    model, files = traced(name)
    decoder = Decoder(files["decoder"], rows=4, size=40)
    texts = [random_tokens(length, seed=length) for length in (5, 17, 1)]
    for row, text in enumerate(texts):
        decoder.run([text], [0], first=row)
    for step in range(11):
        new = random_tokens(3, seed=100 + step)
        found = decoder.run([[token] for token in new], [len(text) for text in texts])
        for text, token in zip(texts, new, strict=True):
            text.append(token)
    expected = np.stack([reference_logits(model, text)[-1:] for text in texts])
    assert error(found, expected) < TOLERANCE


def test_a_new_prompt_may_take_a_used_row(traced):
    model, files = traced("mistral")
    decoder, prompt = Decoder(files["decoder"], rows=1, size=40), random_tokens(9)
    decoder.run([random_tokens(30, seed=1)], [0])
    assert error(decoder.run([prompt], [0])[0], reference_logits(model, prompt)[-1:]) < TOLERANCE


def test_first_tokens_of_equal_lengths_may_be_one_batch(traced):
    model, files = traced("llama")
    prompts = [random_tokens(6, seed=seed) for seed in range(3)]
    found = Decoder(files["decoder"], rows=3, size=16).run(prompts, [0, 0, 0])
    assert error(found, np.stack([reference_logits(model, prompt)[-1:] for prompt in prompts])) < TOLERANCE


def test_a_text_may_be_as_long_as_the_model_allows(traced):
    model, files = traced("llama")
    prompt = random_tokens(MAX_LENGTH)
    found = Decoder(files["decoder"], rows=1, size=MAX_LENGTH).run([prompt], [0])
    assert error(found[0], reference_logits(model, prompt)[-1:]) < TOLERANCE


@pytest.mark.parametrize("name", BY_LENGTH)
@pytest.mark.parametrize("length", [10, 20])
def test_frequencies_that_change_with_the_length_change_as_in_transformers(traced, name, length):
    _, files = traced(name)
    # a fresh model: transformers remembers the longest text that its rotary module has seen
    model, cache = draw(BY_LENGTH[name]), transformers.DynamicCache()
    decoder, prompt = Decoder(files["decoder"], rows=1, size=40), random_tokens(length)
    found = [decoder.run([prompt], [0])[0, 0]]
    with torch.no_grad():
        expected = [model(torch.tensor([prompt]), past_key_values=cache).logits[0, -1].numpy()]
        for step in range(10):
            token = random_tokens(1, seed=step)
            found.append(decoder.run([token], [length + step])[0, 0])
            expected.append(model(torch.tensor([token]), past_key_values=cache).logits[0, -1].numpy())
    assert error(np.stack(found), np.stack(expected)) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "counted"), [("gpt2", True), ("llama", False), ("bloom", False), ("gpt_neox, rotated outside", True)]
)
def test_position_ids_are_an_input_only_where_they_are_read(traced, name, counted):
    assert ("position_ids" in Decoder(traced(name)[1]["decoder"], rows=1, size=8).inputs) == counted


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom", "opt"])
def test_a_traced_model_is_left_as_it_was(traced, name):
    model, _ = traced(name)
    assert error(reference_logits(model, range(5, 25)), reference_logits(draw(CAUSAL[name]), range(5, 25))) == 0.0
    assert not any(module.training for module in model.modules())
    assert model.config._attn_implementation == draw(CAUSAL[name]).config._attn_implementation


def test_logits_have_the_vocabulary_last(traced):
    found = Decoder(traced("gemma3")[1]["decoder"], rows=2, size=8).run([[5], [6]], [0, 0], positions=(0, 0))
    assert found.shape == (2, 2, VOCABULARY)
