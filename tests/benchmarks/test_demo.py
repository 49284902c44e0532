import contextlib
import json
import subprocess
import sys
import types

import pytest

from onnxpipe_bench import demo

NEAR = [0.69, 0.94, 0.26]
DOCUMENTED = [0.6945773, 0.9429151, 0.2568761]


def test_the_order_of_scores_is_that_of_their_places_from_the_least():
    assert demo._order([0.7, 0.9, 0.2]) == [2, 0, 1]
    assert demo._order(DOCUMENTED) == demo._order(NEAR)
    assert demo._order([0.9, 0.7, 0.2]) != demo._order(DOCUMENTED)


def process_that_says(*lines):
    return types.SimpleNamespace(stdout=iter([f"{line}\n" for line in lines]))


def test_the_servers_address_is_read_from_what_it_says(capsys):
    said = ["loading", "http://127.0.0.1:40123/models/acme/model  feature-extraction", "never read"]
    assert demo._wait_for_url(process_that_says(*said)) == "http://127.0.0.1:40123"
    assert capsys.readouterr().out.splitlines() == said[:2]


@pytest.mark.parametrize("process", [process_that_says("no address"), types.SimpleNamespace(stdout=None)])
def test_a_server_that_ends_without_an_address_ends_the_demo(process):
    with pytest.raises(SystemExit, match="the server did not start"):
        demo._wait_for_url(process)


def test_curl_is_given_the_documented_question(monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return types.SimpleNamespace(stdout=b"[0.5, 0.25, 0.125]")

    monkeypatch.setattr(subprocess, "run", run)
    assert demo._ask_with_curl("http://127.0.0.1:1") == [0.5, 0.25, 0.125]
    command = commands[0]
    assert command[0] == "curl"
    assert command[-1] == "http://127.0.0.1:1/models/sentence-transformers/all-MiniLM-L6-v2"
    assert json.loads(command[command.index("-d") + 1]) == {
        "inputs": {
            "source_sentence": "That is a happy person",
            "sentences": ["That is a happy dog", "That is a very happy person", "Today is a sunny day"],
        }
    }


def test_a_command_that_fails_ends_the_demo():
    with pytest.raises(subprocess.CalledProcessError):
        demo._run(sys.executable, "-c", "raise SystemExit(1)")


@pytest.fixture
def show(monkeypatch, arguments, capsys):
    """Runs the demo with the given answers per precision in place of an export, a server and its clients."""

    def call(answers, curl="/usr/bin/curl"):
        commands = []
        manifest = types.SimpleNamespace(variants=dict.fromkeys(answers))
        monkeypatch.setattr(demo, "_run", lambda *command: commands.append(command))
        monkeypatch.setattr(demo, "open_bundle", lambda path: types.SimpleNamespace(manifest=manifest))
        monkeypatch.setattr(demo, "_server", lambda bundle, precision: contextlib.nullcontext(precision))
        monkeypatch.setattr(demo, "_ask_with_client", lambda precision: answers[precision])
        monkeypatch.setattr(demo, "_ask_with_curl", lambda precision: answers[precision])
        monkeypatch.setattr(demo, "_latencies", lambda bundle, precision, url: f"{precision}: fast")
        monkeypatch.setattr(demo.shutil, "which", lambda name: curl)
        arguments("--model", "the/model", "--bundle", "the/bundle", "--export-python", "the/python")
        return demo.main(), capsys.readouterr().out, commands

    return call


def test_answers_near_the_documented_ones_are_success(show):
    code, output, commands = show({"fp32": [0.6945774, 0.942915, 0.2568762], "int8": NEAR})
    assert code == 0
    assert output.endswith("\nas documented\n")
    table = [line.split("  ")[0] for line in output.splitlines() if "off by" in line]
    assert table == ["fp32, InferenceClient", "fp32, curl", "int8, InferenceClient", "int8, curl"]
    assert commands[0][:4] == ("the/python", "-m", "onnxpipe", "export")
    assert commands[1] == (sys.executable, "-m", "onnxpipe", "inspect", "the/bundle", "--verify")


@pytest.mark.parametrize(
    "answers",
    [
        {"fp32": NEAR},  # near enough for int8 only
        {"fp32": DOCUMENTED, "int8": [0.6945773, 0.9429151, 0.30]},
        {"int8": [0.7, 0.69, 0.26]},  # another order
        {"fp32": [0.6945773, 0.9429151 + 2e-4, 0.2568761], "int8": DOCUMENTED},
    ],
)
def test_answers_too_far_from_the_documented_ones_are_failure(show, answers):
    code, output, _ = show(answers)
    assert code == 1
    assert output.endswith("\nnot as documented\n")


def test_without_curl_the_client_alone_is_asked_and_that_is_said(show):
    code, output, _ = show({"fp32": DOCUMENTED}, curl=None)
    assert code == 0
    assert "curl is not installed here: asked with InferenceClient only" in output
    assert "fp32, curl" not in output


def test_the_demos_server_answers_and_is_stopped(tiny_bundle, capsys):
    from urllib.request import urlopen

    with demo._server(str(tiny_bundle("bert", "")), "fp32") as url, urlopen(f"{url}/health") as answer:
        assert json.load(answer) == {"status": "ok"}
    assert capsys.readouterr().out.endswith("server stopped with exit code 0\n")


def test_a_server_that_cannot_start_is_waited_for(tmp_path, capsys):
    with pytest.raises(SystemExit, match="did not start"), demo._server(str(tmp_path), "fp32"):
        pass
    assert "server stopped with exit code 1" in capsys.readouterr().out
