import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onnxpipe_bench import encoders, peer_claims, peer_environments, peers_speed, tables
from onnxpipe_bench.peer_environments import Peer

SCRIPTS = Path(peers_speed.__file__).parent / "peers"
FAKE = """
import sys
from encoder_loop import answer, in_batches

def make(model, work, threads, form):
    print("a library says hello")
    if form == "broken":
        raise OSError("it wants a hub")
    shift = 3.0 if form == "other" else 0.0
    return in_batches(lambda texts: [[len(text), shift * len(text), 1.0] for text in texts])

answer(make, ["pytest", "no-such-package"])
"""


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Peers that run beside this test, and `make_graphs` and `install` that note what they are asked for."""
    (tmp_path / "peers").mkdir()
    shutil.copy(SCRIPTS / "encoder_loop.py", tmp_path / "peers")
    (tmp_path / "peers" / "fake.py").write_text(FAKE)
    peers = {
        "torch": Peer(script="fake.py", packages=("torch-like==1",), forms={"fp32": "fp32"}),
        "strange": Peer(script="fake.py", packages=("strange==2",), forms={"other": "int8", "broken": "int8"}),
    }
    for module in (peer_environments, encoders, peers_speed):
        monkeypatch.setattr(module, "PEERS", peers)
    monkeypatch.setattr(peer_environments, "_PEERS", tmp_path / "peers")
    monkeypatch.setattr(peer_environments, "_python", lambda folder: Path(sys.executable))
    monkeypatch.setattr(encoders, "_OWN", tmp_path / "peers" / "fake.py")
    return peers


def run(arguments, tmp_path, bundle, *more):
    arguments("--root", tmp_path, "--bundle", bundle, "--repeats", 1, "--turns", 1, "--sentences", 40, *more)
    peers_speed.main()
    return json.loads((tmp_path / "results" / "peers.json").read_text(encoding="utf-8"))


def test_every_candidate_is_measured_and_who_cannot_run_is_told_with_the_reason(
    fakes, tiny_bundle, results, arguments, tmp_path
):
    found = run(arguments, tmp_path, tiny_bundle("bert", ""))
    ours = ["bare fp32", "bare fp32 spinning", "bare fp32 x 32", "onnxpipe fp32"]
    assert [row["candidate"] for row in found["rows"]] == ["torch fp32", "strange other", *ours]
    assert found["missing"] == [{"peer": "strange broken", "reason": "OSError: it wants a hub"}]
    assert found["reference"] == "torch fp32"
    for row in found["rows"]:
        assert list(row["alone_ms"]) == ["16", "64", "256"]
        assert min(*row["alone_ms"].values(), *row["per_second"].values()) > 0
        assert row["versions"] == {"pytest": pytest.__version__}
    same = {row["candidate"]: row["same_embedding"] for row in found["rows"]}
    assert [name for name, equal in same.items() if not equal] == ["strange other"]
    lines = tables.TABLES["peers"](found).splitlines()
    assert len(lines) == 2 + 6 + 1
    assert "another embedding" in lines[3]
    assert "it wants a hub" in lines[-1]


def test_a_peer_that_cannot_be_installed_is_told_and_the_others_are_measured(
    fakes, tiny_bundle, results, arguments, tmp_path, monkeypatch
):
    def install(peer, folder):
        if peer.packages == ("strange==2",):
            raise subprocess.CalledProcessError(1, ["pip"], stderr="Collecting\nERROR: no such version\n")
        folder.mkdir()

    monkeypatch.setattr(peer_environments, "install", install)
    found = run(arguments, tmp_path, tiny_bundle("bert", ""), "--setup")
    assert found["missing"] == [{"peer": "strange", "reason": "cannot be installed: ERROR: no such version"}]
    assert found["rows"][0]["candidate"] == "torch fp32"


def test_an_environment_is_made_once_and_again_when_its_versions_change(fakes, tmp_path, monkeypatch):
    installed = []
    monkeypatch.setattr(
        peer_environments, "install", lambda peer, folder: installed.append(folder.mkdir(exist_ok=True))
    )
    for _ in range(2):
        assert peer_environments.set_up(["torch"], tmp_path, tmp_path) == {}
    assert len(installed) == 1
    fakes["torch"] = Peer(script="fake.py", packages=("torch-like==3",), forms={"fp32": "fp32"})
    peer_environments.set_up(["torch"], tmp_path, tmp_path)
    assert len(installed) == 2


def test_an_unknown_peer_is_refused_with_the_names_there_are(fakes, arguments, capsys):
    arguments("--peers", "torch,tensorflow")
    with pytest.raises(SystemExit):
        peers_speed.main()
    assert "no tensorflow; there are: torch, strange" in capsys.readouterr().err


def test_sentences_have_their_lengths_and_are_all_different():
    short, mixed = peers_speed.sentences("short", 300), peers_speed.sentences("mixed", 300)
    assert {len(text.split()) + 2 for text in short} == {16}
    assert len({len(text.split()) for text in mixed}) > 40
    assert len(set(short)) == 300


def row(name, ms, rate, *, same=True):
    alone, together = dict.fromkeys(("16", "64", "256"), ms), dict.fromkeys(("short", "mixed"), rate)
    return {"candidate": name, "alone_ms": alone, "per_second": together, "same_embedding": same}


def test_claims_are_held_against_the_faster_bare_way_and_the_best_peer_of_the_same_embedding():
    rows = [
        row("bare int8", 1.0, 100),
        row("bare int8 x 32", 1.0, 200),
        row("onnxpipe int8", 1.08, 190),
        row("transformers.js q8", 1.35, 100),
        row("fast but another", 1.0, 900, same=False),
    ]
    told = {claim["claim"]: claim for claim in peer_claims.claims(rows)}
    over = [told[f"onnxpipe int8 to bare int8, ms at {tokens} tokens"]["holds"] for tokens in (16, 64, 256)]
    assert over == [True, False, False]
    assert told["onnxpipe int8 to bare int8, short sentences per second"]["found"] == 0.95
    assert told["transformers.js q8 to onnxpipe int8, ms at 64 tokens"] == {
        "claim": "transformers.js q8 to onnxpipe int8, ms at 64 tokens",
        "found": 1.25,
        "bound": "at least",
        "limit": 1.25,
        "holds": True,
    }
    assert told["onnxpipe int8 to the best peer (transformers.js q8), mixed sentences per second"]["found"] == 1.9


def test_the_bare_work_makes_the_embedding_of_the_pipeline(minilm_bundle):
    texts = ["One.", "A man is playing a large flute in the park."]
    vectors = []
    for form in ("onnxpipe fp32", "bare fp32", "bare fp32 x 32"):
        command = [sys.executable, str(SCRIPTS / "onnxpipe_encoder.py"), str(minilm_bundle), "-", "2"]
        started = encoders.Candidate(
            name=form,
            precision="fp32",
            command=[*command, form.removeprefix("onnxpipe ")],
            environment=peer_environments.environment(2, minilm_bundle),
        )
        encoder = encoders.Encoder(started)
        vectors.append(encoder.embed(texts))
        encoder.close()
    for given in vectors[1:]:
        unit = given / np.linalg.norm(given, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, vectors[0], atol=1e-5)
