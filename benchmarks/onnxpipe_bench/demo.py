"""The whole way on a real model: export, verify, serve, and ask over HTTP what the API's documentation asks.

    python -m onnxpipe_bench.demo --model FOLDER --bundle OUT --export-python PYTHON

The export runs in its own environment (`--export-python`), everything else in this one, without torch. Exit code 1
when an answer is not the documented one.
"""

import argparse
import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import InferenceClient

from onnxpipe.bundle import open_bundle
from onnxpipe.load import load
from onnxpipe_bench.measure import interleave, percentiles

_ID = "sentence-transformers/all-MiniLM-L6-v2"
_SOURCE = "That is a happy person"
_SENTENCES = ["That is a happy dog", "That is a very happy person", "Today is a sunny day"]
# what the documentation prints for them, and how far each precision may be from it
_DOCUMENTED = [0.6945773, 0.9429151, 0.2568761]
_ALLOWED = {"fp32": 1e-4, "int8": 0.04}


def main() -> int:
    """Run the demonstration; 0 when every answer was near enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--export-python", default=sys.executable)
    args = parser.parse_args()

    _title(f"Export {_ID} to fp32 and int8, verified against torch")
    _run(args.export_python, "-m", "onnxpipe", "export", args.model, args.bundle, "--id", _ID, "--force")
    _title("Look into the bundle and check it, without torch")
    _run(sys.executable, "-m", "onnxpipe", "inspect", args.bundle, "--verify")

    lines = [("documentation", *(f"{value:.7f}" for value in _DOCUMENTED), "")]
    failed = False
    for precision in open_bundle(args.bundle).manifest.variants:
        _title(f"Serve {precision} and ask")
        with _server(args.bundle, precision) as url:
            answers = {"InferenceClient": _ask_with_client(url)}
            if shutil.which("curl"):
                answers["curl"] = _ask_with_curl(url)
            else:
                print("curl is not installed here: asked with InferenceClient only")
            latency = _latencies(args.bundle, precision, url)
        for client, answer in answers.items():
            worst = max(abs(given - told) for given, told in zip(answer, _DOCUMENTED, strict=True))
            failed |= worst > _ALLOWED[precision] or _order(answer) != _order(_DOCUMENTED)
            lines.append(
                (f"{precision}, {client}", *(f"{value:.7f}" for value in answer), f"off by {worst:.2g} at most")
            )
        print(latency)

    _title("Answers beside the documented ones")
    for row in [("", *_SENTENCES, ""), *lines]:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, (22, 20, 28, 21, 0), strict=True)).rstrip())
    print("\nnot as documented" if failed else "\nas documented")
    return int(failed)


def _title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603 - our own commands


@contextlib.contextmanager
def _server(bundle: str, precision: str) -> Iterator[str]:
    """A server on a free port of the loopback interface, by its URL; stopped as a service manager would stop it."""
    command = [sys.executable, "-m", "onnxpipe", "serve", bundle, "--precision", precision, "--port", "0"]
    command += ["--log-level", "warning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        try:
            yield _wait_for_url(process)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=30)
            print(f"server stopped with exit code {code}")


def _wait_for_url(process: "subprocess.Popen[str]") -> str:
    for line in process.stdout or ():
        print(line, end="")
        if found := re.search(r"http://[\w.]+:\d+", line):
            return found[0]
    raise SystemExit("the server did not start")


def _ask_with_client(url: str) -> list[float]:
    return InferenceClient(model=f"{url}/models/{_ID}").sentence_similarity(_SOURCE, other_sentences=_SENTENCES)


def _ask_with_curl(url: str) -> list[float]:
    body = json.dumps({"inputs": {"source_sentence": _SOURCE, "sentences": _SENTENCES}})
    command = ["curl", "-s", "-X", "POST", "-d", body, f"{url}/models/{_ID}"]
    answer: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603
    return answer


def _latencies(bundle: str, precision: str, url: str) -> str:
    """One line: size, and the time of the question in this process and through the client over HTTP."""
    pipeline = load(bundle, precision=precision)
    inputs = {"source_sentence": _SOURCE, "sentences": _SENTENCES}
    client = InferenceClient(model=f"{url}/models/{_ID}", headers={"x-use-cache": "false"})
    times = interleave(
        {
            "in process": lambda: pipeline(inputs),
            "over HTTP": lambda: client.sentence_similarity(_SOURCE, other_sentences=_SENTENCES),
        },
        repeats=50,
    )
    manifest = open_bundle(bundle).manifest
    size = sum((Path(bundle) / file).stat().st_size for file in manifest.variants[precision].files.values())
    measured = ", ".join(f"{name} {percentiles(values)['p50']:.2f} ms" for name, values in times.items())
    return f"{precision}: {size / 1e6:.1f} MB; the question with its four sentences takes {measured} (median of 50)"


def _order(scores: list[float]) -> list[int]:
    return sorted(range(len(scores)), key=scores.__getitem__)


if __name__ == "__main__":
    sys.exit(main())
