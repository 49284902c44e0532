"""What TapasTokenizer's own tests say of two tables: token ids, type ids, lengths, and questions that are left out.

Source: huggingface/transformers, tests/models/tapas/test_tokenization_tapas.py. They need the vocabulary of
bert-base-uncased, which is not here; but the ids they expect tell it for the words of these tables, once the few words
of several pieces are known.
"""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, processors

from onnxpipe.sections import Table, Text
from onnxpipe.text.tables import TableEncoding, TableReader
from onnxpipe.text.tokenizer import Tokenizer

SPECIAL = {"[PAD]": 0, "[EMPTY]": 1, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102}
PIECES = {
    pieces.replace(" ##", ""): pieces.split()
    for pieces in (
        *("cap ##rio", "cl ##oon ##ey", "po ##s", "sec ##s", "02 ##3", "carp ##ent ##ier", "jun ##que ##ira"),
        *("jo ##ur ##dai ##n", "ra ##hal", "ha ##ber ##feld", "or ##iol", "ser ##via", "vas ##ser", "tia ##go"),
        *("mont ##eiro", "fit ##tip ##aldi", "ding ##man", "dom ##ing ##uez", "herd ##ez", "her ##ta", "p ##k"),
        *("re ##ay", "cam ##athi ##as", "co ##yne", "tag ##lian ##i", "rockets ##ports", "bo ##ur ##dai ##s"),
        *("rod ##olf ##o", "la ##vin"),
    )
}
TABLE = Table(empty_token="[EMPTY]", type_sizes=(3, 256, 256, 2, 256, 256, 10), max_columns=255, max_rows=255)


@pytest.fixture(scope="module")
def facts(test_data: Path) -> dict[str, dict[str, Any]]:
    """By test, its values by name; `expected_results` is the last of that name."""
    content = json.loads((test_data / "golden/tapas_tokenization.json").read_text(encoding="utf-8"))
    return {test["test"]: {value["name"]: value["value"] for value in test["values"]} for test in content["tests"]}


def words(texts: list[str]) -> list[str]:
    return [word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower())]


@pytest.fixture
def make_reader(facts: dict[str, dict[str, Any]], tmp_path: Path) -> Any:
    """A reader with the vocabulary that the expected ids tell, and limits of its own."""
    vocabulary = dict(SPECIAL)
    for question, header, columns, ids in _expected(facts):
        texts = [*header, *(cell for row in zip(*columns, strict=True) for cell in row)]
        pieces = ["[CLS]", *words([question]), "[SEP]", *(p for word in words(texts) for p in PIECES.get(word, [word]))]
        for piece, number in zip(pieces, ids, strict=True):
            assert vocabulary.setdefault(piece, number) == number, piece
    backend = Backend(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    frame = [(token, SPECIAL[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    backend.save(str(tmp_path / "tokenizer.json"))

    def make(max_tokens: int = 512, **settings: int) -> TableReader:
        special = {"cls_token": "[CLS]", "sep_token": "[SEP]"}
        text = Text(tokenizer="tokenizer.json", max_tokens=max_tokens, special_tokens=special)
        return TableReader(Tokenizer(tmp_path / "tokenizer.json", text), dataclasses.replace(TABLE, **settings))

    return make


def _expected(facts: dict[str, dict[str, Any]]) -> list[tuple[str, list[str], list[list[str]], list[int]]]:
    actors, drivers = facts["test_tapas_integration_test"], facts["test_full_tokenizer"]
    header, *rows = drivers["data"]
    return [
        (actors["queries"][0], [*actors["data"]], [*actors["data"].values()], actors["expected_results"]["input_ids"]),
        (
            drivers["query"],
            header,
            [list(column) for column in zip(*rows, strict=True)],
            [number for number in drivers["expected_results"]["input_ids"] if number != SPECIAL["[PAD]"]],
        ),
    ]


def encode(reader: TableReader, facts: dict[str, dict[str, Any]], which: int) -> TableEncoding:
    question, header, columns, _ = _expected(facts)[which]
    return reader.encode(reader.read(header, columns), question, truncate=True)


def test_ids_and_all_seven_type_ids_of_the_table_of_actors(make_reader: Any, facts: dict[str, dict[str, Any]]) -> None:
    expected = facts["test_tapas_integration_test"]["expected_results"]
    encoding = encode(make_reader(), facts, 0)
    assert encoding.ids.tolist() == expected["input_ids"]
    assert encoding.type_ids.tolist() == expected["token_type_ids"]


def test_ids_segments_columns_and_rows_of_the_table_of_drivers(
    make_reader: Any, facts: dict[str, dict[str, Any]]
) -> None:
    expected = facts["test_full_tokenizer"]["expected_results"]
    encoding = encode(make_reader(), facts, 1)
    size = len(encoding.ids)
    assert encoding.ids.tolist() == expected["input_ids"][:size]
    for place, name in enumerate(("segment_ids", "column_ids", "row_ids")):
        assert encoding.type_ids[:, place].tolist() == expected[name][:size]
    assert not any(expected["input_ids"][size:])


def test_the_table_is_cut_to_the_limit(make_reader: Any, facts: dict[str, dict[str, Any]]) -> None:
    limit = facts["test_tapas_truncation_integration_test"]["tokenizer.model_max_length"]
    assert len(encode(make_reader(limit), facts, 0).ids) == limit
    for shorter in range(12, 41):
        assert len(encode(make_reader(shorter), facts, 0).ids) <= shorter


@pytest.mark.parametrize("settings", [{"max_question_tokens": 2}, {"min_question_tokens": 30}])
def test_a_question_of_another_length_is_left_out(
    settings: dict[str, int], make_reader: Any, facts: dict[str, dict[str, Any]]
) -> None:
    expected = facts["test_min_max_question_length"]["expected_results"]
    assert encode(make_reader(**settings), facts, 0).ids.tolist()[:2] == expected
