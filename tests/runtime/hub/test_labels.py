import pytest

pytest.importorskip("transformers", reason="the reference needs the export extra")
import json
from types import SimpleNamespace

import transformers

from onnxpipe.hub.labels import classification_section, label_names
from onnxpipe_export.sections import classification_section as exported_section


@pytest.mark.parametrize("of_sound", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_labels": 1},
        {"num_labels": 3},
        {"num_labels": 1, "problem_type": "regression"},
        {"num_labels": 4, "problem_type": "multi_label_classification"},
        {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "problem_type": "single_label_classification"},
        {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "num_labels": 2},
    ],
)
def test_labels_and_activations_are_read_as_at_export(settings, of_sound, tmp_path):
    config = transformers.BertConfig(**settings)
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    expected = exported_section(SimpleNamespace(config=config), of_sound=of_sound)
    assert classification_section(written, of_sound=of_sound) == expected
    # and as older files have it, without what is only said by their names
    assert classification_section(settings, of_sound=of_sound) == expected


def test_a_class_without_a_name_gets_transformers_own():
    assert label_names({"id2label": {"0": "cat", "2": "dog"}}) == ("cat", "LABEL_1")
