import numpy as np
import onnxruntime
import pytest
import torch

from generation_zoo import SEQ2SEQ, error, random_tokens

TOLERANCE = 5e-5  # of the largest logit
BEAMS = 3


def run_steps(files, cross, mask, first, steps):
    """Logits (rows, V) after the first tokens (rows, T) and `steps` more, and all tokens: new buffers at each step."""
    session = onnxruntime.InferenceSession(files["decoder"])
    names = [port.name for port in session.get_inputs()]
    past = {
        port.name: np.zeros((len(first), port.shape[1], 24, port.shape[3]), np.float32)
        for port in session.get_inputs()
        if port.name.startswith("past_key_values.")
    }
    tokens, length = first, 0
    for step in range(steps + 1):
        new = tokens[:, length:]
        end = length + new.shape[1]
        feeds = {
            "input_ids": new,
            "position_ids": np.tile(np.arange(length, end), (len(new), 1)),
            "seqlens_k": np.full(len(new), end - 1, np.int32),
            "total_sequence_length": np.array(end, np.int32),
            "logit_positions": np.full((len(new), 1), new.shape[1] - 1),
            "encoder_attention_mask": mask,
            **cross,
            **past,
        }
        logits, *present = session.run(None, {name: feeds[name] for name in names})
        past = dict(zip(past, present, strict=True))
        if step < steps:
            chosen = np.array(random_tokens(len(new), seed=step))[:, None]
            tokens, length = np.concatenate([tokens, chosen], axis=1), end
    return logits[:, 0], tokens


def encode(files, feeds):
    """The encoder's outputs by name."""
    session = onnxruntime.InferenceSession(files["encoder"])
    return dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.mark.parametrize("name", SEQ2SEQ)
@pytest.mark.parametrize("prefix", [1, 3])
def test_beams_of_padded_sources_get_transformers_logits(traced, name, prefix):
    model, files = traced(name)
    ids, mask = np.array([random_tokens(9), random_tokens(9, seed=1)]), np.ones((2, 9), np.int64)
    ids[1, 6:], mask[1, 6:] = model.config.pad_token_id, 0
    cross = encode(files, {"input_ids": ids, "attention_mask": mask})
    first = np.array([[model.config.decoder_start_token_id or 2, *random_tokens(prefix - 1)]] * 2 * BEAMS)
    # 9 steps: past the sliding of T5's buckets into the last ones
    found, tokens = run_steps(files, cross, mask, first, 9)
    with torch.no_grad():
        expected = model(
            input_ids=torch.tensor(ids).repeat_interleave(BEAMS, 0),
            attention_mask=torch.tensor(mask).repeat_interleave(BEAMS, 0),
            decoder_input_ids=torch.tensor(tokens),
        ).logits[:, -1]
    assert error(found, expected.numpy()) < TOLERANCE


def test_sound_features_have_no_mask(traced):
    model, files = traced("whisper")
    features = np.random.default_rng(0).standard_normal((2, 8, 40)).astype(np.float32)
    cross = encode(files, {"input_features": features})
    found, tokens = run_steps(files, cross, None, np.full((2 * BEAMS, 1), 4), 5)
    with torch.no_grad():
        expected = model(
            input_features=torch.tensor(features).repeat_interleave(BEAMS, 0), decoder_input_ids=torch.tensor(tokens)
        ).logits[:, -1]
    assert error(found, expected.numpy()) < TOLERANCE


def test_the_encoder_gives_keys_and_values_of_every_decoder_layer(traced):
    _, files = traced("t5")
    outputs = encode(files, {"input_ids": np.full((2, 7), 5), "attention_mask": np.ones((2, 7), np.int64)})
    assert list(outputs) == [f"cross_key_values.{layer}.{part}" for layer in range(3) for part in ("key", "value")]
    assert {values.shape for values in outputs.values()} == {(2, 4, 7, 24)}


def test_padding_of_a_batch_changes_no_source(traced):
    _, files = traced("bart")
    alone = encode(files, {"input_ids": np.array([random_tokens(4)]), "attention_mask": np.ones((1, 4), np.int64)})
    ids, mask = np.array([[*random_tokens(4), 1, 1, 1], random_tokens(7)]), np.ones((2, 7), np.int64)
    mask[0, 4:] = 0
    padded = encode(files, {"input_ids": ids, "attention_mask": mask})
    assert max(error(padded[name][:1, :, :4], values) for name, values in alone.items()) < TOLERANCE
