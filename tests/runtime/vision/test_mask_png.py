import base64
import io

import numpy as np
import pytest
from hypothesis import given, strategies
from hypothesis.extra import numpy as arrays
from PIL import Image

from onnxpipe.vision.mask_png import decode_mask, encode_mask


def check(mask):
    text = encode_mask(mask)
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
        image.verify()
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L", mask.shape[::-1])
        np.testing.assert_array_equal(np.asarray(image), np.where(mask, 255, 0))
    np.testing.assert_array_equal(decode_mask(text), mask)


@given(arrays.arrays(np.bool_, strategies.tuples(strategies.integers(1, 40), strategies.integers(1, 40))))
def test_a_mask_is_a_gray_png_of_zeros_and_255_and_comes_back(mask):
    check(mask)


@pytest.mark.parametrize("shape", [(1, 1), (300, 1), (1, 300), (255, 100), (256, 100), (800, 1066)])
def test_rows_that_are_empty_may_be_all_none_above_or_below(shape):
    mask = np.zeros(shape, bool)
    check(mask)
    for row in {0, shape[0] // 3, shape[0] - 1}:
        one = mask.copy()
        one[row, -1] = True
        check(one)
    check(~mask)


def test_something_small_on_a_large_picture_is_a_small_file():
    mask = np.zeros((3000, 4000), bool)
    mask[1000:1100, 2000:2100] = True
    assert len(encode_mask(mask)) < 20_000
