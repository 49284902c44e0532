"""A graph with its weights and numbers in 16 bits; inputs and outputs keep 32."""

import logging
import warnings
from pathlib import Path

from onnxpipe.errors import UnsupportedModel
from onnxpipe_export.quiet import first_line, quiet


def write_half(source: Path, target: Path) -> None:
    """Write `target` in fp16. Raises UnsupportedModel where onnxruntime's converter cannot."""
    import onnx

    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constants too small or too large for 16 bits, which become the nearest
        from onnxruntime.transformers.float16 import convert_float_to_float16

        logging.getLogger("onnxruntime.transformers").setLevel(logging.ERROR)
        try:
            model = convert_float_to_float16(onnx.load(source), keep_io_types=True)
            onnx.save(model, target)
        except (ValueError, RuntimeError, TypeError, KeyError, onnx.checker.ValidationError) as error:
            raise UnsupportedModel(f"{source.name}: it cannot be fp16 ({first_line(error)})") from error
