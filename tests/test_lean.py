"""What `pip install '.[cpu]'` brings into a new environment: small, and quick to import.

Runs on the environment whose interpreter ONNXPIPE_LEAN_PYTHON names; `make test` makes it.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

MAX_SITE_PACKAGES_MB = 240
FORBIDDEN = {
    *("torch", "transformers", "optimum", "onnx", "fastapi", "starlette", "pydantic", "uvicorn"),
    *("pandas", "librosa", "scipy", "huggingface_hub", "jinja2"),
}


@pytest.fixture(scope="module")
def lean_python() -> str:
    path = os.environ.get("ONNXPIPE_LEAN_PYTHON")
    if path is None:
        pytest.skip("no lean environment: `make test` makes one, or set ONNXPIPE_LEAN_PYTHON to its interpreter")
    return str(Path(path).absolute())


def ask(python: str, code: str) -> object:
    """What `code` prints as JSON, run from a folder that is not the checkout."""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    return json.loads(done.stdout)


def test_site_packages_are_small_pip_included(lean_python: str) -> None:
    code = "import json, sysconfig; print(json.dumps(sysconfig.get_paths()['purelib']))"
    folder = Path(str(ask(lean_python, code)))
    size = sum(file.lstat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
    assert size / 2**20 <= MAX_SITE_PACKAGES_MB


def test_importing_loads_none_of_the_forbidden_modules(lean_python: str) -> None:
    loaded = ask(lean_python, "import json, sys, onnxpipe; print(json.dumps(sorted(sys.modules)))")
    assert "onnxpipe.load" in loaded
    assert not {name.partition(".")[0] for name in loaded} & FORBIDDEN


def test_the_command_line_runs_without_any_extra_but_cpu(lean_python: str, minilm_bundle: Path) -> None:
    sentences = {"source_sentence": "That is a happy person", "sentences": ["That is a very happy person"]}
    command = [lean_python, "-m", "onnxpipe", "run", str(minilm_bundle.absolute()), json.dumps(sentences)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert json.loads(done.stdout) == pytest.approx([0.9429151], abs=1e-4)


@pytest.mark.parametrize(("command", "extra"), [("export", "export"), ("serve", "server")])
def test_a_command_whose_extra_is_missing_says_what_to_install(lean_python: str, command: str, extra: str) -> None:
    done = subprocess.run(
        [lean_python, "-m", "onnxpipe", command, "a", "b"], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 1
    assert f"pip install 'onnxpipe[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
