"""The environments of `peers_speed`, one per peer: versions that work together, and how they are installed."""

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

_PEERS = Path(__file__).parent / "peers"
# by its exact version and first: a later resolution could otherwise take a build with CUDA
_TORCH = "torch==2.13.0"
# what the makers of graphs write, next to the environments
GRAPHS = "graphs"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peer:
    """One library: where it is installed, and the ways it is measured in.

    `forms` maps what a script calls a way to the precision it computes in; `unwanted` are packages that others bring
    and that do not work beside torch's build for CPUs.
    """

    script: str
    packages: tuple[str, ...]
    forms: dict[str, str]
    unwanted: tuple[str, ...] = ()
    reads_graphs: bool = False


PEERS: dict[str, Peer] = {
    "transformers": Peer(
        script="transformers_encoder.py",
        packages=(_TORCH, "transformers==5.23.0"),
        forms={"torch": "fp32"},
    ),
    # first of those that read graphs, for it makes them
    "optimum": Peer(
        script="optimum_encoder.py",
        packages=(
            _TORCH,
            "optimum==2.1.0",
            "optimum-onnx[onnxruntime]==0.1.0",
            "transformers==4.57.6",
            "onnxruntime==1.31.1",
        ),
        forms={"fp32": "fp32", "int8": "int8"},
        reads_graphs=True,
    ),
    # 6 wants transformers 5, which optimum-onnx 0.1 does not take
    "sentence-transformers": Peer(
        script="sentence_transformers_encoder.py",
        packages=(_TORCH, "sentence-transformers[onnx]==5.7.0", "transformers==4.57.6", "onnxruntime==1.31.1"),
        forms={"torch": "fp32", "onnx-int8": "int8"},
    ),
    "sentence-transformers-openvino": Peer(
        script="sentence_transformers_encoder.py",
        packages=(
            _TORCH,
            "sentence-transformers[openvino]==6.2.0",
            "optimum-intel==2.2.0",
            "openvino==2026.4.1",
            "datasets==4.4.1",
        ),
        forms={"openvino": "fp32", "openvino-int8": "int8"},
        unwanted=("torchvision",),
    ),
    "fastembed": Peer(
        script="fastembed_encoder.py",
        packages=("fastembed==0.9.1", "onnxruntime==1.31.1"),
        forms={"fp32": "fp32", "int8": "int8"},
        reads_graphs=True,
    ),
    # optimum 2 does not find the files it names; pyarrow's newer ones want a newer numpy than it does
    "infinity": Peer(
        script="infinity_encoder.py",
        packages=(
            _TORCH,
            "infinity-emb[torch,optimum]==0.0.78",
            "optimum==1.24.0",
            "transformers==4.48.3",
            "onnxruntime==1.31.1",
            "datasets==3.2.0",
            "pyarrow==19.0.1",
        ),
        forms={"torch": "fp32", "optimum": "int8"},
        reads_graphs=True,
    ),
    "transformers.js": Peer(
        script="transformers_js_encoder.mjs",
        packages=("@huggingface/transformers@4.3.1",),
        forms={"q8": "int8"},
        reads_graphs=True,
    ),
}


def set_up(names: Iterable[str], root: Path, model: Path) -> dict[str, str]:
    """Make what is missing of the environments and of the graphs; returns why a peer could not be made, by name."""
    failed: dict[str, str] = {}
    for name in names:
        done = root / name / ".done"
        wanted = "\n".join(PEERS[name].packages) + "\n"
        if not (done.exists() and done.read_text(encoding="utf-8") == wanted):
            print(f"installing {name}", flush=True)
            try:
                install(PEERS[name], root / name)
            except (OSError, subprocess.CalledProcessError) as error:
                failed[name] = f"cannot be installed: {_reason(error)}"
                continue
            done.write_text(wanted, encoding="utf-8")
    if any(PEERS[name].reads_graphs for name in names) and not (root / GRAPHS / ".done").exists():
        try:
            make_graphs(root, model)
        except (OSError, subprocess.CalledProcessError) as error:
            failed |= {name: f"needs optimum's graphs: {_reason(error)}" for name in names if PEERS[name].reads_graphs}
    return failed


def install(peer: Peer, folder: Path) -> None:
    """A fresh environment with a peer's packages. Raises OSError or CalledProcessError."""
    shutil.rmtree(folder, ignore_errors=True)
    if peer.script.endswith(".mjs"):
        folder.mkdir(parents=True)
        # its script would fetch the providers for CUDA, from elsewhere than the registry
        environment = {**os.environ, "ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
        command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *peer.packages]
        _check(command, environment)
        return
    _check([sys.executable, "-m", "venv", str(folder)])
    pip = [str(_python(folder)), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    if _TORCH in peer.packages:
        _check([*pip, "install", _TORCH])
    _check([*pip, "install", *peer.packages])
    if peer.unwanted:
        _check([*pip, "uninstall", "--yes", *peer.unwanted])


def make_graphs(root: Path, model: Path) -> None:
    """The graphs that peers without an export of their own are given. Raises OSError or CalledProcessError."""
    python = _python(root / "optimum")
    _check([str(python), str(_PEERS / "onnx_graphs.py"), str(model), str(root / GRAPHS)], environment(2, root))
    (root / GRAPHS / ".done").touch()


def command(name: str, form: str, root: Path, model: Path, threads: int) -> list[str]:
    """What starts a peer in one of its ways."""
    peer = PEERS[name]
    work = root / (GRAPHS if peer.reads_graphs else f"{name}-models")
    arguments = [str(_PEERS / peer.script), str(model.absolute()), str(work.absolute()), str(threads), form]
    if peer.script.endswith(".mjs"):
        return ["node", *arguments, str((root / name).absolute())]
    return [str(_python(root / name).absolute()), *arguments]


def environment(threads: int, root: Path) -> dict[str, str]:
    """The variables of every peer's process: no network, so many threads, nothing kept outside `root`."""
    told = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str((root / "hub").absolute()),
        "DO_NOT_TRACK": "1",
        "OMP_NUM_THREADS": str(threads),
        "RAYON_NUM_THREADS": str(threads),
    }
    # every library tokenises as it does by itself
    return {name: value for name, value in os.environ.items() if name != "TOKENIZERS_PARALLELISM"} | told


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _check(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, env=environment)  # noqa: S603  # as written here


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return last_line(error.stderr)
    return str(error)


def last_line(text: str) -> str:
    """The last thing that a process said, which in Python is what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word"
