"""Other servers of embeddings, each in an environment of its own, around a bundle's own graph: their answers are ours.

infinity takes a folder in hub layout, and of its graphs the only one; its optimum engine does not find a graph that is
named by a whole path, so it is started in that folder.
"""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from onnxpipe.bundle import open_bundle
from onnxpipe_bench.peer_environments import Peer, environment, install, last_line
from onnxpipe_bench.serving import Running, free_port

THREADS = 2
_LITSERVE = Path(__file__).parent / "peers" / "litserve_server.py"
_OPTIMUM_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")

# name -> what is installed for it
ENVIRONMENTS: Mapping[str, Peer] = {
    "litserve": Peer(
        script=_LITSERVE.name,
        packages=("litserve==0.2.19", "onnxruntime==1.31.1", "tokenizers==0.23.3", "numpy==2.4.6"),
        forms={},
    ),
    "infinity-server": Peer(
        script="",
        packages=(
            "torch==2.13.0",
            "infinity-emb[torch,optimum,server]==0.0.78",
            "optimum==1.24.0",
            "transformers==4.48.3",
            "onnxruntime==1.31.1",
            "datasets==3.2.0",
            "pyarrow==19.0.1",
        ),
        forms={},
    ),
}


def set_up(root: Path) -> dict[str, str]:
    """Make the environments that are missing; returns why one could not be made, by name."""
    failed = {}
    for name, peer in ENVIRONMENTS.items():
        done, wanted = root / name / ".done", "\n".join(peer.packages) + "\n"
        if not (done.exists() and done.read_text(encoding="utf-8") == wanted):
            print(f"installing {name}", flush=True)
            try:
                install(peer, root / name)
            except (OSError, subprocess.CalledProcessError) as error:
                failed[name] = f"cannot be installed: {last_line(getattr(error, 'stderr', None) or str(error))}"
                continue
            done.write_text(wanted, encoding="utf-8")
    return failed


def found(root: Path, name: str) -> str | None:
    """The interpreter of an environment under `root`, if it is there."""
    return str((root / name / "bin" / "python").absolute()) if (root / name / ".done").exists() else None


def litserve(python: str, bundle: str, precision: str) -> Running:
    """LitServe on a free port: POST /predict."""
    opened = open_bundle(bundle)
    _, variant = opened.variant(precision)
    files = [opened.file(variant.files["model"]), opened.path / "tokenizer.json"]
    arguments = [*(str(file.absolute()) for file in files), str(THREADS)]
    port = free_port()
    return Running(str(_LITSERVE), *arguments, str(port), program=[python], port=port)


@contextlib.contextmanager
def infinity(python: str, bundle: str, precision: str) -> Iterator[Running]:
    """infinity's own server on a free port, with its optimum engine: POST /embeddings."""
    opened = open_bundle(bundle)
    _, variant = opened.variant(precision)
    with tempfile.TemporaryDirectory() as folder:
        for name in _OPTIMUM_FILES:
            shutil.copy(opened.path / name, folder)
        shutil.copy(opened.file(variant.files["model"]), Path(folder) / "model.onnx")
        port = free_port()
        options = ["--engine", "optimum", "--device", "cpu", "--pooling-method", "mean", "--log-level", "warning"]
        with Running(
            *("infinity_emb.cli", "v2", "--model-id", ".", "--host", "127.0.0.1", "--port", str(port), *options),
            program=[python, "-m"],
            port=port,
            folder=folder,
            environment={**environment(THREADS, Path(folder)), "INFINITY_ANONYMOUS_USAGE_STATS": "0"},
        ) as running:
            yield running


Start = Callable[[str, str, str], AbstractContextManager[Running]]
# name -> how it is started, where it embeds, and the field of a request that has the text
SERVERS: Mapping[str, tuple[Start, str, str]] = {
    "LitServe": (litserve, "/predict", "inputs"),
    "infinity": (infinity, "/embeddings", "input"),
}
