import re

import onnxpipe
from onnxpipe import errors


def test_the_package_offers_load_the_errors_and_its_version_and_nothing_else():
    names = [name for name, member in vars(errors).items() if isinstance(member, type)]
    assert sorted(onnxpipe.__all__) == sorted([*names, "__version__", "load"])


def test_everything_offered_is_there():
    assert [name for name in onnxpipe.__all__ if not hasattr(onnxpipe, name)] == []


def test_the_version_is_one_that_packaging_understands():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", onnxpipe.__version__)
