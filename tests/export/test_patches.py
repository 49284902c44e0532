import numpy as np
import pytest
import torch
import transformers

from onnxpipe.session import Session
from onnxpipe_export.export import export
from onnxpipe_export.loaded import Loaded
from onnxpipe_export.patches import patched
from onnxpipe_export.quiet import quiet
from zoo import LABELS

CLASSIFIER = "ForSequenceClassification"


@pytest.fixture
def bart(tiny_model):
    with quiet():
        return transformers.AutoModelForSequenceClassification.from_pretrained(tiny_model("bart", CLASSIFIER)).eval()


@pytest.fixture
def batch(bart):
    """A text, a pair and a text that holds an end token, padded: one, three and two end tokens."""
    end, pad = bart.config.eos_token_id, bart.config.pad_token_id
    rows = [[0, 9, 8, end], [0, 9, end, end, 7, 6, end], [0, 5, end, 6, end]]
    ids = torch.tensor([row + [pad] * (7 - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": ids.ne(pad).long()}


@pytest.fixture
def one_by_one(bart, batch):
    """What the untouched model says to each row without its padding."""
    rows = [ids[mask.bool()][None] for ids, mask in zip(*batch.values(), strict=True)]
    with torch.inference_mode():
        return torch.cat([bart(row).logits for row in rows])


def test_rows_with_different_numbers_of_end_tokens_share_a_batch(bart, batch, one_by_one):
    with pytest.raises(ValueError, match="same number of <eos>"):
        bart(**batch)
    with patched(Loaded(None, bart)), torch.inference_mode():
        torch.testing.assert_close(bart(**batch).logits, one_by_one, atol=1e-5, rtol=0)


def test_the_model_is_as_it_was_afterwards(bart, batch):
    with patched(Loaded(None, bart)):
        pass
    with pytest.raises(ValueError, match="same number of <eos>"):
        bart(**batch)


def test_the_graph_takes_them_too(tiny_bundle, batch, one_by_one):
    session = Session(tiny_bundle("bart", CLASSIFIER) / "onnx" / "model.onnx")
    logits = session.run({name: tensor.numpy() for name, tensor in batch.items()})["logits"]
    assert logits.shape == (3, len(LABELS))
    np.testing.assert_allclose(logits, one_by_one, atol=1e-5)


def test_a_task_the_exporter_lacks_for_an_architecture_is_exported(tiny_model, tmp_path):
    report = export(tiny_model("modernbert", "ForQuestionAnswering"), tmp_path / "out", precisions=["fp32"])
    assert (report.task, report.refused) == ("question-answering", ())
