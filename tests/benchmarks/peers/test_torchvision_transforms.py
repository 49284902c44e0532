import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torchvision is beside torch")

# in a process of its own: what is declared and imported stays
SCRIPT = """
import sys
from pathlib import Path
from onnxpipe_bench.peers.torchvision_transforms import import_torchvision
print(import_torchvision(Path(sys.argv[1])), "transformers" in sys.modules)
"""
# what the real one does with operators whose compiled code does not load
PACKAGE = """
import torch
for name in ("nms", "qnms"):
    torch.library.register_fake(f"torchvision::{name}")(lambda *given: given)
"""


def answer(folder: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, folder], capture_output=True, text=True, check=True)
    return done.stdout.split()


def write_package(folder: Path, text: str) -> Path:
    (folder / "torchvision").mkdir(parents=True)
    (folder / "torchvision" / "__init__.py").write_text(text, encoding="utf-8")
    return folder


def test_a_torchvision_whose_operators_do_not_load_can_be_imported(tmp_path):
    assert answer(write_package(tmp_path, PACKAGE)) == ["True", "False"]


def test_one_that_fails_for_another_reason_is_as_good_as_none(tmp_path):
    assert answer(write_package(tmp_path, PACKAGE.replace("qnms", "roi_align"))) == ["False", "False"]


def test_without_a_folder_there_is_none(tmp_path):
    assert answer(tmp_path / "none") == ["False", "False"]
