"""torchvision's transforms from a folder, beside a torch that its compiled operators do not fit.

PyPI has torchvision for torch with CUDA alone. Beside a CPU build its operators do not load, and its Python fails on
import, for it adds to two of them. With these declared it imports; no transform of an image processor calls any.
"""

import functools
import importlib
import importlib.util
import sys
from pathlib import Path

_OPERATORS = ("nms", "qnms")  # what torchvision 0.28 adds to without asking whether they are there


@functools.cache
def import_torchvision(folder: Path) -> bool:
    """Whether this process has a torchvision now: the installed one if it fits torch, else that of `folder`, if any.

    To be called before transformers is imported, which looks for it once.
    """
    if importlib.util.find_spec("torchvision") is None:
        if not folder.is_dir():
            return False
        sys.path.append(str(folder.resolve()))
        _declare_operators()
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):  # of another build
        return False
    return True


@functools.cache
def _declare_operators() -> object:
    """The library that declares them, as long as it lives; nothing where the compiled ones will load."""
    import torch

    if torch.version.cuda is not None:
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")
    return library
