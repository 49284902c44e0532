"""The bundle's golden requests, asked again: does this machine give the answers the reference gave?"""

import math
from collections.abc import Mapping
from typing import Any

from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.records import plain


def check_golden(model: Model) -> list[str]:
    """What differs by more than the manifest allows, one line per request; empty when all is well."""
    problems = []
    for golden in model.golden:
        answer = plain(make_pipeline(model, golden.task)(golden.inputs, **golden.parameters))
        worst = distance(golden.expected, answer)
        allowed = golden.tolerance[model.precision]
        if worst > allowed:
            problems.append(
                f"{golden.task}: an answer differs from the reference by {worst:.3g}, allowed is {allowed:.3g}"
            )
    return problems


def distance(expected: Any, given: Any) -> float:  # JSON data of any shape
    """The largest difference between numbers in the same places; infinite when anything else differs.

    Labelled scores are compared label by label, for two scores that are nearly equal may change places. Masks in base64
    are as far apart as the share of their pixels that differ.
    """
    if isinstance(expected, bool) or isinstance(given, bool) or expected is None:
        return 0.0 if expected is given else float("inf")  # in Python, True == 1
    if isinstance(expected, int | float) and isinstance(given, int | float):
        apart = abs(float(expected) - float(given))
        return float("inf") if math.isnan(apart) else apart  # `max` would lose a NaN that is not the first
    if isinstance(expected, Mapping) and isinstance(given, Mapping) and expected.keys() == given.keys():
        return max((distance(value, given[key]) for key, value in expected.items()), default=0.0)
    if isinstance(expected, list) and isinstance(given, list) and len(expected) == len(given):
        pairs = zip(_by_label(expected), _by_label(given), strict=True)
        return max((distance(left, right) for left, right in pairs), default=0.0)
    if _is_mask(expected) and _is_mask(given):
        return _mask_distance(expected, given)
    return 0.0 if expected == given else float("inf")


def _is_mask(value: object) -> bool:
    return isinstance(value, str) and value.startswith("iVBORw0KGgo")  # how a PNG file begins, in base64


def _mask_distance(expected: str, given: str) -> float:
    # here, not above: only segmentation pays for loading Pillow
    from onnxpipe.vision.mask_png import decode_mask

    left, right = decode_mask(expected), decode_mask(given)
    return float((left != right).mean()) if left.shape == right.shape else float("inf")


def _by_label(items: list[Any]) -> list[Any]:
    if all(isinstance(item, Mapping) and "label" in item for item in items):
        return sorted(items, key=lambda item: str(item["label"]))
    return items
