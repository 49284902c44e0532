import json
import shutil

import numpy as np
import pytest
import transformers

from onnxpipe.errors import UnsupportedModel
from onnxpipe.sections import Text
from onnxpipe.text.tokenizer import Tokenizer
from onnxpipe_export.source import find_model
from onnxpipe_export.tokenizer import load_tokenizer, write_tokenizer


@pytest.fixture
def folder(tiny_model, tmp_path):
    return shutil.copytree(tiny_model("bert", ""), tmp_path / "model")


def written(folder, out):
    out.mkdir()
    write_tokenizer(load_tokenizer(find_model(str(folder))), out)
    return Tokenizer(out / "tokenizer.json", Text(tokenizer="tokenizer.json"))


def test_only_the_files_that_runtimes_read_are_written(folder, tmp_path):
    written(folder, tmp_path / "out")
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]


def test_truncation_and_padding_are_switched_off_in_the_file(folder, tmp_path):
    data = json.loads((folder / "tokenizer.json").read_text())
    data["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    written(folder, tmp_path / "out")
    data = json.loads((tmp_path / "out" / "tokenizer.json").read_text())
    assert data["truncation"] is None
    assert data["padding"] is None


def test_a_slow_tokenizer_is_converted(folder, tmp_path):
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)), encoding="utf-8")
    expected = written(folder, tmp_path / "fast").encode("Hello, world! déjà vu").ids.tolist()
    (folder / "tokenizer.json").unlink()
    assert written(folder, tmp_path / "slow").encode("Hello, world! déjà vu").ids.tolist() == expected


@pytest.mark.parametrize(
    ("family", "file", "other"),
    [
        ("xlm-roberta", "sentencepiece.bpe.model", "test_sentencepiece.model"),
        ("albert", "spiece.model", "spiece.model"),
        ("deberta-v2", "spm.model", "spiece.model"),
    ],
)
@pytest.mark.parametrize("replaced", [False, True], ids=["trained", "of transformers"])
def test_a_sentencepiece_model_alone_is_converted(
    tiny_model, tmp_path, test_data, texts, family, file, other, replaced
):
    source = tiny_model(family, "")
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", file):
        shutil.copy(source / name, folder)
    if replaced:
        shutil.copy(test_data / "tokenizers/transformers_fixtures" / other, folder / file)
    ours = written(folder, tmp_path / "out")
    fast, slow = (transformers.AutoTokenizer.from_pretrained(folder, use_fast=fast) for fast in (True, False))
    pairs = list(zip(texts[::9], texts[1::9], strict=False))
    for text, pair in [*((text, None) for text in texts), *pairs]:
        expected = fast(text, pair)
        given = ours.encode(text, pair)
        assert given.ids.tolist() == expected["input_ids"]
        assert given.type_ids.tolist() == expected.get("token_type_ids", given.type_ids.tolist())
    # conversion itself differs on control characters and decomposed accents, and of these digits and punctuation
    same = [ours.encode(text).ids.tolist() == slow(text)["input_ids"] for text in texts]
    assert np.mean(same) > (0.4 if replaced else 0.95)


def test_lower_casing_of_sentence_transformers_is_put_into_the_tokenizer(tiny_model, tmp_path):
    folder = shutil.copytree(tiny_model("roberta", ""), tmp_path / "model")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    tokenizer = written(folder, tmp_path / "out")
    assert tokenizer.encode("HELLO There").ids.tolist() == tokenizer.encode("hello there").ids.tolist()


def test_a_model_without_a_tokenizer_is_refused(folder):
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(UnsupportedModel, match="transformers cannot load its tokenizer"):
        load_tokenizer(find_model(str(folder)))
