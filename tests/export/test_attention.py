from collections import Counter

import numpy as np
import pytest

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.session import Session
from onnxpipe.verification.samples import TEXTS
from onnxpipe_export.attention import open_joined
from onnxpipe_export.generation.graphs import save

CLASSIFIER = "ForSequenceClassification"


def rows_of(bundle):
    pipeline = make_pipeline(load_model(bundle, threads=1))
    return [pipeline.preprocess(text, pipeline.types()[1]()).rows[0] for text in pipeline.check_inputs(list(TEXTS[:4]))]


@pytest.mark.parametrize(("family", "layers"), [("bert", 2), ("roberta", 2), ("distilbert", 2)])
def test_attention_of_the_usual_form_is_one_node_and_gives_the_same(tiny_bundle, tmp_path, family, layers):
    bundle = tiny_bundle(family, CLASSIFIER)
    rows = rows_of(bundle)
    model = open_joined(bundle / "onnx" / "model.onnx", rows)
    operators = Counter(node.op_type for node in model.graph)
    assert operators["MultiHeadAttention"] == layers
    assert operators["Softmax"] == 0
    save(model, tmp_path / "joined.onnx")
    plain, joined = Session(bundle / "onnx" / "model.onnx"), Session(tmp_path / "joined.onnx")
    for row in rows:
        feeds = {name: array[None] for name, array in row.items()}
        np.testing.assert_allclose(joined.run(feeds)["logits"], plain.run(feeds)["logits"], atol=1e-4)


@pytest.mark.parametrize("family", ["deberta-v2", "electra", "mpnet"])
def test_other_forms_are_left_as_they_are_or_give_the_same(tiny_bundle, tmp_path, family):
    bundle = tiny_bundle(family, CLASSIFIER)
    rows = rows_of(bundle)
    save(open_joined(bundle / "onnx" / "model.onnx", rows), tmp_path / "joined.onnx")
    feeds = {name: array[None] for name, array in rows[0].items()}
    expected, given = (
        Session(file).run(feeds)["logits"] for file in (bundle / "onnx" / "model.onnx", tmp_path / "joined.onnx")
    )
    np.testing.assert_allclose(given, expected, atol=1e-4)
