import numpy as np
import pytest

from onnxpipe_export.generation.rounding import fit_scales, round_blocks


def unpack(packed, scales, width):
    integers = np.stack([packed & 15, packed >> 4], axis=-1).reshape(*packed.shape[:2], -1).astype(np.int64) - 8
    return (integers * scales[..., None]).reshape(len(packed), -1)[:, :width]


def usual(matrix, size):
    """What comes back with the scale that makes each block's largest weight -8."""
    blocks = matrix.reshape(-1, size)
    peaks = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)
    scales = peaks / -8
    return (np.clip(np.rint(blocks / scales), -8, 7) * scales).reshape(matrix.shape)


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_every_block_comes_back_nearer_than_with_the_usual_scale(size):
    matrix = np.random.default_rng(0).standard_normal((40, 256)).astype(np.float32)
    errors = [
        np.square(found - matrix).reshape(-1, size).sum(axis=1)
        for found in (unpack(*round_blocks(matrix, size), 256), usual(matrix, size))
    ]
    assert (errors[0] <= errors[1] * 1.0001).all()
    assert errors[0].sum() < 0.95 * errors[1].sum()


def test_a_row_is_filled_up_to_whole_blocks():
    matrix = np.random.default_rng(0).standard_normal((3, 70)).astype(np.float32)
    packed, scales = round_blocks(matrix, 32)
    assert (packed.shape, scales.shape, packed.dtype) == ((3, 3, 16), (3, 3), np.uint8)
    assert np.abs(unpack(packed, scales, 70) - matrix).max() < 0.6 * np.abs(scales).max()
    assert set((packed[:, 2, 3:] & 15).ravel()) == {8}  # zeros


def test_zeros_stay_zeros():
    packed, scales = round_blocks(np.zeros((2, 32), np.float32), 32)
    assert not unpack(packed, scales, 32).any()
    assert np.isfinite(scales).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e30])
def test_weights_may_be_small_or_large(scale):
    blocks = np.random.default_rng(0).standard_normal((50, 32))
    found = fit_scales((blocks * scale).astype(np.float32)) / scale
    np.testing.assert_allclose(found, fit_scales(blocks.astype(np.float32)), rtol=1e-4)


def test_many_blocks_are_the_same_as_few(monkeypatch):
    matrix = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    whole = round_blocks(matrix, 32)
    monkeypatch.setattr("onnxpipe_export.generation.rounding._TOGETHER", 320)
    for part, expected in zip(round_blocks(matrix, 32), whole, strict=True):
        np.testing.assert_array_equal(part, expected)
