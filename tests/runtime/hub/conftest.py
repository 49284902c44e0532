import json
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxpipe.bundle import MANIFEST_NAME


@pytest.fixture
def classifier_repo(classification_bundle: Callable[..., Path]) -> Path:
    """A folder with a ready-made graph, as on the hub: a classifier of texts with three labels."""
    folder = classification_bundle()
    (folder / MANIFEST_NAME).unlink()
    labels = {"0": "ONE", "1": "TWO", "2": "THREE"}
    config = {"architectures": ["BertForSequenceClassification"], "model_type": "bert", "id2label": labels}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return folder
