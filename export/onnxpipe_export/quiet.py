"""Libraries kept quiet, and their errors in a line."""

import contextlib
import logging
import sys
import warnings
from collections.abc import Iterator

from onnxpipe.errors import UnsupportedModel


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the chatter of torch, transformers and optimum off the terminal; errors still raise."""
    loggers = [logging.getLogger(name) for name in ("transformers", "optimum", "torch.onnx", "root")]
    levels = [logger.level for logger in loggers]
    if "transformers" in sys.modules:  # `onnxpipe quantize` does without
        sys.modules["transformers"].utils.logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def loading(part: str, model: str) -> Iterator[None]:
    """The same while transformers loads a part of a model. Raises UnsupportedModel when it cannot."""
    with quiet():
        try:
            yield
        except (ValueError, OSError, KeyError, TypeError, ImportError) as error:
            raise UnsupportedModel(f"{model}: transformers cannot load its {part} ({first_line(error)})") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text: libraries add advice for their own users below it."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
