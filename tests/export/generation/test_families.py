import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from generation_zoo import CAUSAL, SEQ2SEQ, draw
from onnxpipe_export.generation.families import make_bias
from onnxpipe_export.generation.step import Step


def step(position_ids, total):
    rows = len(position_ids)
    return Step(
        seqlens_k=torch.zeros(rows, dtype=torch.int32),
        total_sequence_length=torch.tensor(total, dtype=torch.int32),
        input_ids=torch.zeros_like(position_ids),
        position_ids=position_ids,
        logit_positions=torch.zeros(rows, 1, dtype=torch.int64),
        text_lengths=torch.full((rows,), total, dtype=torch.int32),
        past=(),
    )


@pytest.mark.parametrize(("name", "heads"), [("bloom", 4), ("bloom, six heads", 6)])
def test_alibi_leans_as_in_transformers(name, heads):
    bias = make_bias(draw(CAUSAL[name]))(step(torch.tensor([[7, 8], [7, 8]]), 9))
    expected = build_alibi_tensor(torch.ones(1, 9), heads, torch.float32)
    assert bias.shape == (1, heads, 2, 9)
    torch.testing.assert_close(bias[0, :, :1], expected)


@pytest.mark.parametrize("name", ["t5", "mt5"])
def test_relative_positions_share_buckets_as_in_transformers(name):
    model = draw(SEQ2SEQ[name])
    # rows of two lengths, far enough apart for the last bucket
    bias = make_bias(model)(step(torch.tensor([[49], [4]]), 50))
    attention = model.decoder.block[0].layer[0].SelfAttention
    expected = attention.compute_bias(50, 50)[0]
    torch.testing.assert_close(bias[0, :, 0], expected[:, 49])
    torch.testing.assert_close(bias[1, :, 0, :5], expected[:, 4, :5])


def test_other_families_add_nothing():
    assert make_bias(draw(CAUSAL["llama"])) is None
    assert make_bias(draw(SEQ2SEQ["bart"])) is None
