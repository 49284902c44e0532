"""onnxpipe: Hugging Face models at the edge.

    import onnxpipe

    classify = onnxpipe.load("bundles/sst2")
    classify("A charming film.")          # [Label(label='POSITIVE', score=0.9998...), ...]

`load` opens a bundle that `onnxpipe export` wrote. Everything else lives in the modules of this package.
"""

from onnxpipe.errors import (
    BundleError,
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    MalformedAudio,
    MalformedImage,
    OnnxpipeError,
    Overloaded,
    ProviderUnavailable,
    UnprocessableInput,
    UnsupportedMedia,
    UnsupportedModel,
)
from onnxpipe.load import load
from onnxpipe.version import __version__

__all__ = [
    "BundleError",
    "Cancelled",
    "DeadlineExceeded",
    "InvalidInput",
    "MalformedAudio",
    "MalformedImage",
    "OnnxpipeError",
    "Overloaded",
    "ProviderUnavailable",
    "UnprocessableInput",
    "UnsupportedMedia",
    "UnsupportedModel",
    "__version__",
    "load",
]
