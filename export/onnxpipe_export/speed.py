"""How many times as fast as fp32 a variant is on this machine, taking turns."""

import statistics
import time
from collections.abc import Callable, Mapping

from onnxpipe.batching import Row, run_batch
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.verification.verifier import Verifier
from onnxpipe_export.recipe import Recipe

# tokens of the inputs that are timed
_LENGTHS = (16, 64)
# calls of each, or seconds for both where they take long
_REPEATS, _WARM_UP = 31, 4
_SECONDS = 8.0


def compare_speed(reference: Model, candidate: Model, recipe: Recipe) -> dict[str, float]:
    """Ratios of medians by input: 16 and 64 tokens, or a sample's size; of models that write, a golden request."""
    if recipe.exporter == "generation":
        golden = reference.golden[0] if reference.golden else None
        if golden is None:
            return {}
        calls = [
            lambda model=model: make_pipeline(model, golden.task)(golden.inputs, **golden.parameters)
            for model in (reference, candidate)
        ]
        return {"golden request": _ratio(*calls)}
    found = {}
    for name, row in _rows(reference, recipe).items():
        runs = [
            lambda model=model, row=row: run_batch(model.sessions["model"], model.graph(), [row])
            for model in (reference, candidate)
        ]
        found[name] = _ratio(*runs)
    return found


def _rows(model: Model, recipe: Recipe) -> Mapping[str, Row]:
    rows = sorted(Verifier(model, recipe).inputs, key=lambda row: sum(array.size for array in row.values()))
    ids = rows[-1].get("input_ids")
    if ids is None or ids.ndim != 1:
        return {"a sample": rows[len(rows) // 2]}
    lengths = [length for length in _LENGTHS if length <= len(ids)] or [len(ids)]
    return {
        f"{length} tokens": {
            name: array[:length] if array.shape[:1] == ids.shape else array for name, array in rows[-1].items()
        }
        for length in lengths
    }


def _ratio(reference: Callable[[], object], candidate: Callable[[], object]) -> float:
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + _SECONDS
    for turn in range(-_WARM_UP, _REPEATS):
        if turn > 0 and time.perf_counter() > end:
            break
        for kept, call in list(zip(times, (reference, candidate), strict=True))[:: 1 if turn % 2 else -1]:
            begin = time.perf_counter()
            call()
            if turn >= 0:
                kept.append(time.perf_counter() - begin)
    return statistics.median(times[0]) / statistics.median(times[1])
