import io
import json
import sys

import pytest

from onnxpipe.cli import main


@pytest.fixture
def run(capsys):
    """Runs `onnxpipe run`; gives the exit code, the answer and what was written to stderr."""

    def call(*arguments):
        code = main(["run", *map(str, arguments)])
        output, errors = capsys.readouterr()
        return code, json.loads(output) if output else None, errors

    return call


@pytest.fixture
def stdin(monkeypatch):
    """Sets the bytes on standard input."""

    def write(content):
        # as strict or lenient as a locale may make it
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), "utf-8", errors="surrogateescape"))

    return write


EMBED = ("--task", "feature-extraction")  # "one" is the mean of [CLS] (5, 12), one (1, 0) and [SEP] (0, 0)


def test_one_input_gives_one_result(run, embedding_bundle):
    assert run(embedding_bundle(), "one", *EMBED) == (0, [2.0, 4.0], "")


def test_several_inputs_give_a_list_of_results(run, embedding_bundle):
    assert run(embedding_bundle(), "one", "one three", *EMBED) == (0, [[2.0, 4.0], [2.25, 3.0]], "")


def test_an_object_is_read_as_json_and_the_bundles_own_task_is_the_default(run, embedding_bundle):
    inputs = {"source_sentence": "one", "sentences": ["one", "two"]}
    code, answer, errors = run(embedding_bundle(), json.dumps(inputs))
    assert (code, errors) == (0, "")
    # (6, 12) beside itself, and beside (5, 14)
    assert answer == pytest.approx([1.0, (30 + 168) / (180**0.5 * 221**0.5)], abs=1e-6)


def test_a_json_list_gives_a_list_of_results_even_for_one(run, embedding_bundle):
    assert run(embedding_bundle(), '  ["one"]', *EMBED) == (0, [[2.0, 4.0]], "")


@pytest.mark.parametrize("text", ['"one"', "7", "null", "true"])
def test_what_starts_with_neither_bracket_is_text_and_not_json(run, embedding_bundle, text):
    # one unknown word: the mean of (5, 12), (-1, -1) and (0, 0)
    code, answer, _ = run(embedding_bundle(), text, *EMBED)
    assert code == 0
    assert answer == pytest.approx([4 / 3, 11 / 3])


@pytest.mark.parametrize("text", ["{one", "[1, 2", "[" * 100_000])
def test_what_starts_as_json_must_be_json(run, embedding_bundle, text):
    code, answer, errors = run(embedding_bundle(), text, *EMBED)
    assert (code, answer) == (1, None)
    assert errors.startswith("onnxpipe: the input: not JSON (")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("inputs", [(), ("-",)])
@pytest.mark.parametrize("content", [b"one", b"one\n", b"one\r\n", b"\xef\xbb\xbfone\n"])
def test_standard_input_is_read_when_nothing_or_a_dash_is_given(run, stdin, embedding_bundle, inputs, content):
    stdin(content)
    assert run(embedding_bundle(), *inputs, *EMBED) == (0, [2.0, 4.0], "")


def test_standard_input_may_be_json(run, stdin, embedding_bundle):
    stdin(b'["one", "one three"]\n')
    assert run(embedding_bundle(), *EMBED) == (0, [[2.0, 4.0], [2.25, 3.0]], "")


def test_standard_input_may_be_one_of_several_inputs(run, stdin, embedding_bundle):
    stdin(b"one three")
    assert run(embedding_bundle(), "one", "-", *EMBED) == (0, [[2.0, 4.0], [2.25, 3.0]], "")


def test_standard_input_that_is_not_utf_8_is_a_clear_error(run, stdin, embedding_bundle):
    stdin("grün".encode("latin-1"))
    code, answer, errors = run(embedding_bundle(), *EMBED)
    assert (code, answer) == (1, None)
    assert errors.startswith("onnxpipe: standard input is not UTF-8 text: 'utf-8' codec can't decode byte 0xfc")
    assert errors.count("\n") == 1


def test_an_argument_that_is_not_utf_8_is_a_clear_error(run, embedding_bundle):
    code, _, errors = run(embedding_bundle(), "gr\udcfcn", *EMBED)  # as Python reads such bytes
    assert code == 1
    assert errors == "onnxpipe: the text is not valid Unicode: it holds half of a surrogate pair\n"


def test_parameters_reach_the_task(run, classification_bundle):
    parameters = '{"top_k": 1, "function_to_apply": "none"}'
    answer = [{"label": "THREE", "score": 1.0}]
    assert run(classification_bundle(), "three", "--parameters", parameters) == (0, answer, "")


def test_labels_keep_their_letters(run, classification_bundle, capsys):
    bundle = classification_bundle(labels=("grün", "二", "🙂"))
    assert main(["run", str(bundle), "two", "--parameters", '{"top_k": 1, "function_to_apply": "none"}']) == 0
    assert capsys.readouterr().out == '[{"label": "二", "score": 1.0}]\n'


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ("{", "--parameters: not JSON ("),
        ("", "--parameters: not JSON ("),
        ("[1]", "--parameters: expected a JSON object, given [1]"),
        ("null", "--parameters: expected a JSON object, given null"),
        ('{"top_k": 0}', "`top_k`: expected a number >= 1, given 0"),
        ('{"top_k": "one"}', "`top_k`: expected an integer or null, given 'one'"),
        ('{"topk": 1}', "`topk`: unknown name; expected `top_k`, `function_to_apply`, `truncation`"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(run, classification_bundle, parameters, complaint):
    code, answer, errors = run(classification_bundle(), "one", "--parameters", parameters)
    assert (code, answer) == (1, None)
    assert errors.startswith(f"onnxpipe: {complaint}")
    assert errors.count("\n") == 1


def test_each_precision_and_a_number_of_threads_can_be_asked_for(run, embedding_bundle):
    bundle = embedding_bundle(precisions=("fp32", "int8"))
    for precision in ("fp32", "int8"):
        assert run(bundle, "one", *EMBED, "--precision", precision, "--threads", 2)[:2] == (0, [2.0, 4.0])


@pytest.mark.parametrize("provider", ["cpu", "CPU", "CPUExecutionProvider"])
def test_a_provider_can_be_asked_for_by_its_short_or_long_name(run, embedding_bundle, provider):
    assert run(embedding_bundle(), "one", *EMBED, "--provider", provider)[:2] == (0, [2.0, 4.0])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--task", "summarization"), "tiny does not serve 'summarization'; it serves: sentence-similarity, feature-"),
        (("--precision", "fp16"), "tiny has no precision 'fp16'; it has: fp32"),
        (("--provider", "abacus"), "provider 'abacus' is not available here; available: "),
        (("--provider", "cpu", "--provider", "abacus"), "provider 'abacus' is not available here; available: "),
        (("--threads", "0"), "threads: expected an integer >= 1, given 0"),
        (("--threads", "-1"), "threads: expected an integer >= 1, given -1"),
    ],
)
def test_what_the_bundle_or_the_machine_does_not_have_is_refused_in_one_line(
    run, embedding_bundle, arguments, complaint
):
    code, answer, errors = run(embedding_bundle(), "one", *arguments)
    assert (code, answer) == (1, None)
    assert errors.startswith(f"onnxpipe: {complaint}")
    assert errors.count("\n") == 1


def test_an_input_of_the_wrong_kind_says_what_the_task_takes(run, embedding_bundle):
    code, _, errors = run(embedding_bundle(), "one")
    assert code == 1
    assert errors == "onnxpipe: `inputs`: expected an object with `source_sentence`, `sentences`, given 'one'\n"


def test_of_several_inputs_the_wrong_one_is_named(run, embedding_bundle):
    code, _, errors = run(embedding_bundle(), "one", '{"text": "two"}', *EMBED)
    assert code == 1
    assert errors.startswith("onnxpipe: `inputs[1]`: expected a string, given {")


def test_a_folder_that_is_no_bundle_says_how_to_make_one(run, tmp_path):
    expected = f"onnxpipe: {tmp_path}: not a bundle (no manifest.json in it); `onnxpipe export MODEL OUT` makes one\n"
    assert run(tmp_path, "one") == (1, None, expected)


def test_a_terminal_gets_lines_that_people_can_read(embedding_bundle, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["run", str(embedding_bundle()), "one", *EMBED]) == 0
    assert capsys.readouterr().out == "[\n  2.0,\n  4.0\n]\n"
