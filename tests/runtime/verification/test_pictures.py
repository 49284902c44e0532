import numpy as np

from onnxpipe.verification.pictures import DRAWN
from onnxpipe.vision.image import Picture


def test_drawn_pictures_can_be_opened_and_are_of_several_shapes():
    sizes = {Picture.read(drawn).size for drawn in DRAWN}
    assert sizes == {(96, 64), (64, 96), (72, 72), (160, 48), (40, 120), (120, 90)}


def test_no_picture_is_of_one_colour_or_another_one_again():
    pixels = [np.asarray(Picture.read(drawn).rgb()) for drawn in DRAWN]
    assert all(array.std() > 10 for array in pixels)
    assert len({array.tobytes() for array in pixels}) == len(DRAWN)


def test_the_golden_one_is_small_enough_for_a_manifest():
    assert max(map(len, (DRAWN[0], DRAWN[7]))) < 20_000
