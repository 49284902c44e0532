import contextlib

import pytest
import torch

from generation_zoo import BY_LENGTH, CAUSAL, draw
from onnxpipe_export.generation.rotary import exchange_rotary, make_tables


def test_tables_hold_what_the_module_gives_for_every_position():
    module = draw(CAUSAL["llama, scaled"]).model.rotary_emb
    cos, sin = make_tables(module, 40)
    expected = module(torch.zeros(1), torch.tensor([[0, 17, 39]]))
    assert cos.shape == sin.shape == (40, 8)
    for table, wanted in zip((cos, sin), expected, strict=True):
        torch.testing.assert_close(table[[0, 17, 39]].repeat(1, 2), wanted[0])


def test_a_model_may_have_tables_of_two_kinds():
    with contextlib.ExitStack() as stack:
        tables = exchange_rotary(draw(CAUSAL["gemma3"]), 32, 64, stack)
    assert set(tables) == {f"model_rotary_emb{kind}_{part}" for kind in ("", "_local") for part in ("cos", "sin")}
    assert not torch.equal(tables["model_rotary_emb_cos"], tables["model_rotary_emb_local_cos"])


@pytest.mark.parametrize("kind", [CAUSAL["gpt2"], CAUSAL["llama, small heads"], *BY_LENGTH.values()])
def test_no_tables_where_the_operator_cannot_rotate(kind):
    model = draw(kind)
    size = model.config.hidden_size // model.config.num_attention_heads
    with contextlib.ExitStack() as stack:
        assert exchange_rotary(model, size, 64, stack) == {}


def test_everything_is_put_back():
    model = draw(CAUSAL["llama"])
    code = __import__(type(model).__module__, fromlist=["apply_rotary_pos_emb"])
    before = code.apply_rotary_pos_emb
    with contextlib.ExitStack() as stack:
        exchange_rotary(model, 16, 64, stack)
        assert code.apply_rotary_pos_emb is not before
    assert code.apply_rotary_pos_emb is before
    assert "forward" not in vars(model.model.rotary_emb)
