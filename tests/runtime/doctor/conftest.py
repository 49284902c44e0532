import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from onnxpipe.bundle import Golden, open_bundle, write_manifest


@pytest.fixture
def asked_bundle(embedding_bundle: Callable[..., Path]) -> Path:
    """A bundle with a golden request."""
    folder = embedding_bundle()
    golden = Golden(task="feature-extraction", inputs="one", expected=[2.0, 4.0], tolerance={"fp32": 0.0})
    write_manifest(folder, dataclasses.replace(open_bundle(folder).manifest, golden=(golden,)))
    return folder
