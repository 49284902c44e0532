import base64
import io

import numpy as np
import pytest
from PIL import Image

import onnxpipe
from onnxpipe.errors import InvalidInput, UnsupportedModel
from onnxpipe.records import plain
from onnxpipe.tasks.image_segmentation import ImageSegmentation

# the tiny segmenter takes the channels for the scores of its labels, or for the masks of its queries, whose labels have
# these probabilities, the null label last
PROBABILITIES = np.array([[0.9, 0.04, 0.03, 0.03], [0.05, 0.15, 0.7, 0.1], [0.06, 0.6, 0.3, 0.04]])
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


@pytest.fixture
def load(segmentation_bundle):
    def make(probabilities=PROBABILITIES, **options):
        logits = None if probabilities is None else np.log(probabilities)
        return onnxpipe.load(segmentation_bundle(logits, **options), threads=1)

    return make


def picture(*colors):
    """A row of pixels."""
    image = Image.new("RGB", (len(colors), 1))
    image.putdata(colors)
    return image


def places(segments):
    """Each segment's label and the columns it has in the first row."""
    return [(segment.label, np.flatnonzero(segment.pixels()[0]).tolist()) for segment in segments]


def test_panoptic_segments_come_in_the_order_of_queries_with_label_score_and_mask(load):
    segments = load()(picture(BLUE, RED, RED, GREEN), threshold=0.5)
    assert places(segments) == [("RED", [1, 2]), ("BLUE", [3]), ("GREEN", [0])]
    assert [segment.score for segment in segments] == pytest.approx([0.9, 0.7, 0.6])
    assert all(type(segment.score) is float for segment in segments)


def test_only_queries_above_the_threshold_count_and_the_default_is_nine_tenths(load):
    colors = picture(RED, GREEN, BLUE)
    assert [segment.label for segment in load()(colors, threshold=0.65)] == ["RED", "BLUE"]
    assert load()(colors) == load()(colors, threshold=0.9)
    sure = PROBABILITIES.copy()
    sure[0] = [0.95, 0.02, 0.02, 0.01]
    assert [segment.label for segment in load(sure)(colors)] == ["RED"]


def test_where_nothing_is_found_the_answer_is_empty(load):
    assert load()(picture(RED), threshold=1.0) == []


def test_a_mask_is_a_gray_png_in_base64_of_the_picture_s_size(load):
    resize = {"mode": "exact", "size": {"height": 5, "width": 3}, "resample": "nearest"}
    (segment,) = load(image={"resize": resize})(Image.new("RGB", (40, 20), RED), threshold=0.8)
    with Image.open(io.BytesIO(base64.b64decode(segment.mask))) as mask:
        assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (40, 20))
        assert mask.getextrema() == (255, 255)
    assert segment.pixels().all()


def test_a_mask_has_the_size_of_the_upright_picture(load):
    content = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    Image.new("RGB", (16, 8), RED).save(content, "JPEG", exif=exif, quality=100)
    (segment,) = load()(content.getvalue(), threshold=0.8)
    assert segment.pixels().shape == (16, 8)


def test_semantic_segments_have_no_score_and_none_on_the_wire(load):
    segments = load()(picture(BLUE, RED, RED), subtask="semantic")
    # the third query sees blue, and says green
    assert places(segments) == [("RED", [1, 2]), ("GREEN", [0])]
    assert [segment.score for segment in segments] == [None, None]
    assert [list(plain(segment)) for segment in segments] == [["label", "mask"]] * 2
    assert list(plain(load()(picture(RED), threshold=0.5)[0])) == ["score", "label", "mask"]


def test_a_model_that_scores_pixels_gives_each_its_best_label(load):
    segment = load(None)
    assert places(segment(picture(BLUE, GREEN, BLUE))) == [("GREEN", [1]), ("BLUE", [0, 2])]
    assert segment(picture(RED)) == segment(picture(RED), subtask="semantic", threshold=1.0)


@pytest.mark.parametrize("subtask", ["panoptic", "instance"])
def test_a_subtask_the_model_cannot_do_is_refused(load, subtask):
    with pytest.raises(InvalidInput, match=f"`subtask`: this model can do semantic, given '{subtask}'"):
        load(None)(picture(RED), subtask=subtask)


def test_the_first_subtask_of_the_model_is_the_default(load):
    colors = picture(BLUE, RED, RED)
    segment = load(subtasks=("semantic", "panoptic"))
    assert segment(colors) == segment(colors, subtask="SEMANTIC")
    with pytest.raises(InvalidInput, match="`subtask`: this model can do semantic or panoptic, given 'instance'"):
        segment(colors, subtask="instance")


def test_instances_are_panoptic_segments_or_pairs_as_the_model_has_it(load):
    colors = picture(RED, GREEN, BLUE)
    parameters = {"subtask": "instance", "threshold": 0.25}
    assert places(load()(colors, **parameters)) == [("RED", [0]), ("BLUE", [1]), ("GREEN", [2])]
    pairs = load(PROBABILITIES, instances="pairs")(colors, **parameters)
    assert places(pairs) == [("RED", [0]), ("BLUE", [1]), ("GREEN", [2])]
    other = np.array([[0.5, 0.45, 0.0, 0.05], [0.1, 0.1, 0.1, 0.7], [0.1, 0.1, 0.1, 0.7]]).clip(1e-9)
    pairs = load(other, instances="pairs")(colors, **parameters)
    # the second pair of the first query lies on top of the first
    assert places(pairs) == [("RED", []), ("GREEN", [0])]


def test_labels_are_fused_when_asked_for_or_when_the_model_says_so(load):
    twice = np.array([[0.9, 0.05, 0.02, 0.03], [0.1, 0.8, 0.05, 0.05], [0.7, 0.2, 0.05, 0.05]])
    colors = picture(RED, GREEN, BLUE)
    apart = [("RED", [0]), ("GREEN", [1]), ("RED", [2])]
    together = [("RED", [0, 2]), ("GREEN", [1])]
    assert places(load(twice)(colors, threshold=0.5)) == apart
    assert places(load(twice)(colors, threshold=0.5, fused_labels=["RED", "BLUE"])) == together
    assert places(load(twice, fused_labels=("RED",))(colors, threshold=0.5)) == together
    assert places(load(twice, fused_labels=("RED",))(colors, threshold=0.5, fused_labels=[])) == apart
    assert places(load(twice, fused_labels=("RED",))(colors, threshold=0.5, subtask="instance")) == apart


def test_a_list_of_pictures_of_several_sizes_gives_each_its_answer(load):
    segment = load()
    pictures = [picture(RED, GREEN), picture(BLUE), picture(RED, GREEN, BLUE), picture(GREEN, RED)]
    assert segment(pictures, threshold=0.5) == [segment(item, threshold=0.5) for item in pictures]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 1.5}, "`threshold`: expected a number <= 1, given 1.5"),
        ({"threshold": -0.1}, "`threshold`: expected a number >= 0"),
        ({"mask_threshold": "high"}, "`mask_threshold`: expected a number"),
        ({"overlap_mask_area_threshold": 2}, "`overlap_mask_area_threshold`: expected a number <= 1, given 2"),
        ({"subtask": "things"}, "`subtask`: expected one of 'panoptic', 'instance', 'semantic' or null"),
        ({"fused_labels": ["SKY"]}, "`fused_labels`: expected labels of the model, given 'SKY'"),
        ({"fused_labels": "RED"}, "`fused_labels`: expected a list"),
        ({"top_k": 1}, "`top_k`: unknown name; expected `subtask`, `threshold`"),
    ],
)
def test_a_wrong_parameter_is_refused_and_named(load, parameters, message):
    with pytest.raises(InvalidInput, match=message):
        load()(picture(RED), **parameters)


def test_what_is_no_picture_is_refused(load):
    with pytest.raises(InvalidInput, match="`inputs`: not an image in a format known here"):
        load()(b"no picture")


def test_a_model_without_segments_is_unsupported(detection_bundle):
    model = onnxpipe.load(detection_bundle(np.zeros((1, 3)), np.zeros((1, 4))), threads=1).model
    with pytest.raises(UnsupportedModel, match="tiny finds no segments; it serves: object-detection"):
        ImageSegmentation(model)
