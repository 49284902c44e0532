"""The ledger of the contract's sentences beside this file names tests that exist."""

import ast
import tomllib
from pathlib import Path

import pytest

LEDGER = tomllib.loads(Path(__file__).with_name("contract_sentences.toml").read_text(encoding="utf-8"))
TESTS = Path(__file__).parents[1]


def names_in(file):
    """Its tests as pytest calls them."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        methods = node.body if isinstance(node, ast.ClassDef) else [node]
        place = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {f"{place}{one.name}" for one in methods if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


@pytest.mark.parametrize("sentence", LEDGER["holds"])
def test_every_sentence_of_the_contract_that_holds_names_tests_that_exist(sentence):
    tests = LEDGER["holds"][sentence]

    assert tests
    for test in tests:
        path, _, name = test.partition("::")
        assert name in names_in(TESTS / path), test


def test_every_sentence_that_does_not_hold_has_a_reason():
    assert all(LEDGER["missing"].values())
    assert not set(LEDGER["missing"]) & set(LEDGER["holds"])
