import os
import subprocess
import sys
from pathlib import Path

import pytest

import onnxpipe
from onnxpipe import cli
from onnxpipe.errors import InvalidInput

COMMANDS = ["export", "pull", "quantize", "run", "serve", "token", "bench", "tune", "inspect", "doctor"]
MODULES_AFTER_HELP = """
import sys
from onnxpipe.cli import main
try:
    main(["--help"])
except SystemExit:
    print(*sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""
WITHOUT_A_PACKAGE = """
import sys
sys.modules[sys.argv[1]] = None
from onnxpipe.cli import main
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture
def doctor_does(monkeypatch):
    """Replaces what `onnxpipe doctor` does."""

    def replace(action):
        monkeypatch.setattr("onnxpipe.commands.doctor.run", lambda args: action())

    return replace


def fail_with(error):
    def action():
        raise error

    return action


def in_a_process(*arguments, code=None, **options):
    """`onnxpipe` (or `code`) with arguments in a fresh process, its output block-buffered as it is by default."""
    start = ["-m", "onnxpipe"] if code is None else ["-c", code]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(
        [sys.executable, *start, *arguments],
        env=environment,
        stdout=options.get("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )


def finish(process):
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def test_a_command_that_succeeds_exits_with_0(doctor_does):
    doctor_does(lambda: 0)
    assert cli.main(["doctor"]) == 0


def test_a_commands_own_exit_code_is_handed_on(doctor_does):
    doctor_does(lambda: 1)
    assert cli.main(["doctor"]) == 1


def test_the_processs_arguments_are_used_when_none_are_given(doctor_does, monkeypatch):
    doctor_does(lambda: 0)
    monkeypatch.setattr(sys, "argv", ["onnxpipe", "doctor"])
    assert cli.main() == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["no-such-command"], "invalid choice: 'no-such-command'"),
        (["doctor", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["doctor", "bundle", "extra"], "unrecognized arguments: extra"),
        (["inspect"], "the following arguments are required: bundle"),
        (["run", "bundle", "text", "--threads", "many"], "argument --threads: invalid int value: 'many'"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_what_is_wrong(arguments, complaint, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert complaint in captured.err
    assert captured.err.startswith("usage: onnxpipe")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "bundle", "text", "more", "--task", "feature-extraction"],
        ["run", "bundle", "--task", "feature-extraction", "text", "more"],
        ["run", "--task", "feature-extraction", "bundle", "text", "more"],
        ["run", "bundle", "text", "--task", "feature-extraction", "more"],
        ["--debug", "run", "bundle", "text", "--task", "feature-extraction", "--", "more"],
    ],
)
def test_options_may_stand_before_between_and_behind_the_inputs(arguments, monkeypatch):
    seen = []
    monkeypatch.setattr("onnxpipe.commands.run.run", lambda args: seen.append(args) or 0)
    assert cli.main(arguments) == 0
    assert (seen[0].bundle, seen[0].input, seen[0].task) == ("bundle", ["text", "more"], "feature-extraction")


def test_an_input_that_is_named_like_a_command_is_an_input(monkeypatch):
    seen = []
    monkeypatch.setattr("onnxpipe.commands.run.run", lambda args: seen.append(args) or 0)
    assert cli.main(["run", "export", "serve"]) == 0
    assert (seen[0].bundle, seen[0].input) == ("export", ["serve"])


def test_an_error_on_purpose_is_one_line_and_1(doctor_does, capsys):
    doctor_does(fail_with(InvalidInput("expected a number, given a text")))
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr() == ("", "onnxpipe: expected a number, given a text\n")


def test_an_unexpected_error_names_its_kind_and_the_way_to_see_more(doctor_does, capsys):
    doctor_does(fail_with(ZeroDivisionError("division by zero")))
    assert cli.main(["doctor"]) == 1
    expected = "onnxpipe: unexpected ZeroDivisionError: division by zero; --debug shows where\n"
    assert capsys.readouterr() == ("", expected)


@pytest.mark.parametrize("arguments", [["--debug", "doctor"], ["doctor", "--debug"]])
@pytest.mark.parametrize("error", [InvalidInput("wrong"), ZeroDivisionError("wrong"), ModuleNotFoundError("wrong")])
def test_debug_lets_the_error_through(doctor_does, arguments, error):
    doctor_does(fail_with(error))
    with pytest.raises(type(error), match="wrong"):
        cli.main(arguments)


def test_an_interrupt_is_one_line_and_1(doctor_does, capsys):
    doctor_does(fail_with(KeyboardInterrupt()))
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr() == ("", "onnxpipe: interrupted\n")


def test_a_missing_extra_gives_the_line_that_installs_it(doctor_does, capsys):
    doctor_does(fail_with(ModuleNotFoundError("No module named 'acme'", name="acme")))
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == "onnxpipe: `onnxpipe doctor` needs acme: pip install 'onnxpipe[cpu]'\n"


@pytest.mark.parametrize(
    ("package", "command", "extra"),
    [
        ("fastapi", ["serve", "bundle", "--port", "0"], "server"),
        ("uvicorn", ["serve", "bundle", "--port", "0"], "server"),
        ("orjson", ["serve", "bundle", "--port", "0"], "server"),
        ("torch", ["export", "model", "bundle"], "export"),
    ],
)
def test_a_command_without_its_packages_names_the_package_and_the_extra(package, command, extra):
    code, output, errors = finish(in_a_process(package, *command, code=WITHOUT_A_PACKAGE))
    assert (code, output) == (1, "")
    assert errors == f"onnxpipe: `onnxpipe {command[0]}` needs {package}: pip install 'onnxpipe[{extra}]'\n"


def test_without_onnxruntime_a_run_is_one_line_that_says_what_to_install(embedding_bundle):
    code, output, errors = finish(in_a_process("onnxruntime", "run", embedding_bundle(), "x", code=WITHOUT_A_PACKAGE))
    assert (code, output) == (1, "")
    assert errors.startswith("onnxpipe: onnxruntime is not installed: pip install 'onnxpipe[cpu]'")
    assert errors.count("\n") == 1


def test_without_onnxruntime_the_doctor_still_looks():
    code, output, _ = finish(in_a_process("onnxruntime", "doctor", code=WITHOUT_A_PACKAGE))
    assert code == 1
    assert "providers     none" in output
    assert "broken        onnxruntime is installed but cannot be imported" in output


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f"onnxpipe {onnxpipe.__version__}\n"


def test_the_help_lists_every_command_and_imports_none_of_their_libraries():
    code, output, modules = finish(in_a_process(code=MODULES_AFTER_HELP))
    assert code == 0
    listed = [line.split()[0] for line in output.splitlines() if line.startswith("    ")]
    assert listed == COMMANDS
    heavy = {"torch", "transformers", "optimum", "onnx", "fastapi", "uvicorn", "pydantic", "huggingface_hub"}
    assert set(modules.split()) & heavy == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_its_arguments(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: onnxpipe {command} [-h] [--debug]" in capsys.readouterr().out


def test_a_module_run_is_the_same_command():
    assert finish(in_a_process("--version")) == (0, f"onnxpipe {onnxpipe.__version__}\n", "")


def test_an_error_in_a_process_is_one_line_without_a_traceback(tmp_path):
    code, output, errors = finish(in_a_process("inspect", str(tmp_path)))
    assert (code, output) == (1, "")
    assert errors.startswith(f"onnxpipe: {tmp_path}: not a bundle")
    assert errors.count("\n") == 1


def test_debug_in_a_process_shows_the_traceback(tmp_path):
    code, _, errors = finish(in_a_process("inspect", str(tmp_path), "--debug"))
    assert code == 1
    assert errors.startswith("Traceback")
    assert "BundleError" in errors.splitlines()[-1]


def test_a_reader_that_takes_one_byte_and_leaves_is_no_error(embedding_bundle):
    process = in_a_process("run", str(embedding_bundle()), "--task", "feature-extraction", *["one"] * 20_000)
    assert process.stdout.read(1) == "["
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(120) == 1


def test_a_reader_that_left_before_anything_was_written_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    process = in_a_process("doctor", stdout=writer)
    os.close(writer)
    assert finish(process) == (1, None, "")
