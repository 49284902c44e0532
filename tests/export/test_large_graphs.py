"""A decoder beyond what one protobuf file holds, for real: ONNXPIPE_LARGE=1 asks for it.

It takes 15 GB of memory, 6 GB of disk and some minutes, so it is no part of `make test`.
"""

import os
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the export extra")
import torch
import transformers

import onnxpipe
from generation_zoo import CAUSAL, Kind, write
from onnxpipe.bundle import open_bundle
from onnxpipe_export.export import export

pytestmark = pytest.mark.skipif("ONNXPIPE_LARGE" not in os.environ, reason="takes 15 GB; ONNXPIPE_LARGE=1 asks for it")

# 580 million weights, 2.3 GB
WIDE = {"hidden_size": 4096, "intermediate_size": 20480, "num_hidden_layers": 2, "num_attention_heads": 32}
PRECISIONS = ("fp32", "int8", "int4")
TEXT = "All human beings are born free and equal"


@pytest.fixture(scope="module")
def model(corpus: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = Kind("llama", {**CAUSAL["llama"].config, **WIDE, "max_position_embeddings": 256})
    return write(kind, tmp_path_factory.mktemp("large") / "model", corpus)


@pytest.fixture(scope="module")
def bundle(model: Path) -> Path:
    # what integers make of random weights says nothing: here they only have to be made, measured and run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onnxpipe_export.variants.problems", lambda *_: [])
        export(model, model.parent / "bundle", precisions=PRECISIONS)
    return model.parent / "bundle"


def test_weights_lie_beside_the_graph_and_are_part_of_its_size(bundle: Path) -> None:
    manifest = open_bundle(bundle).manifest
    fp32 = manifest.variants["fp32"]
    assert fp32.external_data == ("onnx/decoder.onnx_data",)
    assert manifest.files["onnx/decoder.onnx_data"].size_bytes > 2**31
    assert (bundle / "onnx/decoder.onnx").stat().st_size < 2**24
    for precision in PRECISIONS[1:]:
        assert not manifest.variants[precision].external_data


def test_its_texts_are_those_of_the_reference(model: Path, bundle: Path) -> None:
    reference = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    inputs = tokenizer(TEXT, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        (row,) = reference.generate(**inputs, do_sample=False, max_new_tokens=12)
    expected = tokenizer.decode(row[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    (found,) = onnxpipe.load(bundle, precision="fp32")(TEXT, max_new_tokens=12)
    assert found.generated_text == expected


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_its_integers_write_too(bundle: Path, precision: str) -> None:
    (found,) = onnxpipe.load(bundle, precision=precision)(TEXT, max_new_tokens=12, details=True)
    assert found.details.generated_tokens >= 1
