"""Every test here needs torch, transformers and optimum."""

import pytest

pytest.importorskip("optimum", reason="export needs the export extra")
