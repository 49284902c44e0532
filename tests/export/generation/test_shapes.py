import pytest
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.generation.shapes import LONGEST, DecoderShape, decoder_shape


def test_grouped_heads_and_a_head_size_of_their_own():
    config = transformers.Qwen3Config(
        num_hidden_layers=5, num_attention_heads=8, num_key_value_heads=2, head_dim=48, max_position_embeddings=300
    )
    assert decoder_shape(config) == DecoderShape(layers=5, kv_heads=2, head_size=48, positions=300)


def test_an_encoder_decoder_is_measured_at_its_decoder():
    config = transformers.BartConfig(
        encoder_layers=2, decoder_layers=3, encoder_attention_heads=2, decoder_attention_heads=4, d_model=64
    )
    assert decoder_shape(config) == DecoderShape(layers=3, kv_heads=4, head_size=16, positions=1024)


def test_relative_positions_have_no_end():
    assert decoder_shape(transformers.T5Config()).positions is None
    assert decoder_shape(transformers.BloomConfig()).positions is None


def test_very_long_promises_are_cut_to_what_tables_hold():
    assert decoder_shape(transformers.LlamaConfig(max_position_embeddings=131072)).positions == LONGEST


def test_an_unknown_family_names_the_known_ones():
    with pytest.raises(UnsupportedModel, match="no generation graph is known for 'bert' models; known are bart, blend"):
        decoder_shape(transformers.BertConfig())


def test_heads_that_the_operator_does_not_take_are_refused():
    with pytest.raises(
        UnsupportedModel, match="its attention heads have 12 numbers each; onnxruntime's operator takes"
    ):
        decoder_shape(transformers.GPT2Config(n_embd=48, n_head=4))
