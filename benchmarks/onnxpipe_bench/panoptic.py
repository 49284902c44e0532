"""What 100 queries of a panoptic model cost after the model: time and peak memory, beside transformers' own function.

    python -m onnxpipe_bench.panoptic [--repeats 15]

Logits (100, 251) and masks (100, 200, 267), as DETR gives for a picture of 800 x 1066, to segments of that size. Masks
are smooth blobs with a little noise; ten or all of the queries are sure of a label. Peak memory is that of a process of
its own that does it once, less what it had before. PNG files of the masks are timed apart: the reference makes none.
"""

import argparse
import functools
import importlib.metadata
import json
import subprocess
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.vision.mask_png import encode_mask
from onnxpipe.vision.masks import Segments, find_panoptic
from onnxpipe_bench.measure import interleave, percentiles, write_result

QUERIES, LABELS = 100, 250
MASK_SIZE, SIZE = (200, 267), (800, 1066)
CASES = (10, 100)  # queries above the threshold
_SETTINGS: dict[str, Any] = {"threshold": 0.9, "mask_threshold": 0.5, "overlap_mask_area_threshold": 0.5}


def main() -> None:
    """Measure every case and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--peak", nargs=2, metavar=("ENGINE", "SURE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        print(json.dumps(own_peak(args.peak[0], int(args.peak[1]))))
        return
    rows = [row for sure in CASES for row in measure_case(sure, args.repeats)]
    model = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("transformers", "torch"))
    file = write_result("panoptic", {"model": model, "repeats": args.repeats, "rows": rows})
    print(f"-> {file}")


def measure_case(sure: int, repeats: int) -> list[dict[str, Any]]:
    """A row per engine: time, peak memory and segments; for ours the time of their PNG files as well."""
    logits, masks = draw_outputs(sure)
    calls: dict[str, Callable[[], Any]] = {
        name: functools.partial(load(), logits, masks) for name, load in ENGINES.items()
    }
    found = calls["onnxpipe"]()
    calls["png"] = lambda: [encode_mask(found.mask(segment)) for segment in found.found]
    times = interleave(calls, repeats=repeats, warm_up=2)
    rows = []
    for name in ENGINES:
        row: dict[str, Any] = {
            "engine": name,
            "sure": sure,
            "ms": percentiles(times[name]),
            "peak_mb": peak_mb(name, sure),
        }
        if name == "onnxpipe":
            row |= {"segments": len(found.found), "png_ms": percentiles(times["png"])}
        rows.append(row)
        print(f"{sure:>3} sure queries  {name:<13} {row['ms']['p50']:>8.1f} ms  {row['peak_mb']:>7.1f} MB at peak")
    return rows


def draw_outputs(sure: int) -> tuple[Floats, Floats]:
    """Logits (Q, C + 1) and masks (Q, h, w) with blobs of all sizes, of which `sure` have a label."""
    draws = np.random.default_rng(7)
    logits = draws.normal(0, 1, (QUERIES, LABELS + 1)).astype(np.float32)
    labels = np.where(np.arange(QUERIES) < sure, draws.integers(0, LABELS, QUERIES), LABELS)
    logits[np.arange(QUERIES), draws.permutation(labels)] = 14
    rows, columns = (np.arange(edge, dtype=np.float32) for edge in MASK_SIZE)
    masks = np.empty((QUERIES, *MASK_SIZE), np.float32)
    for mask in masks:
        (top, left), (height, width) = draws.uniform((0, 0), MASK_SIZE), draws.uniform(0.025, 0.15, 2) * MASK_SIZE[0]
        distance = np.hypot((rows[:, None] - top) / height, (columns - left) / width)
        mask[...] = 8 * np.clip(1 - distance, -1.2, 1) + draws.normal(0, 0.3, MASK_SIZE)
    return logits, masks


def peak_mb(engine: str, sure: int) -> float:
    """Peak memory of one call in a fresh process, in megabytes beyond what it had before."""
    command = [sys.executable, "-m", "onnxpipe_bench.panoptic", "--peak", engine, str(sure)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - ourselves
    return float(json.loads(done.stdout.splitlines()[-1]))


def own_peak(engine: str, sure: int) -> float:
    """What one call adds to this process, in megabytes: its high-water mark, set back before the call."""
    call = ENGINES[engine]()
    # the smallest case first, so that what libraries set up at their first call does not count
    call(*(array[:2, ..., :8] for array in draw_outputs(sure)))
    logits, masks = draw_outputs(sure)
    # VmHWM, for ru_maxrss would still be that of the process that started this one
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status_kb("VmRSS")
    call(logits, masks)
    return round((_status_kb("VmHWM") - before) / 1024, 1)


def _status_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _ours() -> Callable[[Floats, Floats], Segments]:
    return lambda logits, masks: find_panoptic(logits, masks, SIZE, **_SETTINGS)


def _transformers() -> Callable[[Floats, Floats], Any]:  # untyped there
    import torch
    import transformers

    torch.set_num_threads(1)  # as many as numpy's functions have
    processor = transformers.DetrImageProcessor()

    def call(logits: Floats, masks: Floats) -> Any:
        outputs = types.SimpleNamespace(logits=torch.from_numpy(logits)[None], pred_masks=torch.from_numpy(masks)[None])
        return processor.post_process_panoptic_segmentation(
            outputs, target_sizes=[SIZE], label_ids_to_fuse=set(), **_SETTINGS
        )

    return call


ENGINES: Mapping[str, Callable[[], Callable[[Floats, Floats], Any]]] = {
    "transformers": _transformers,
    "onnxpipe": _ours,
}

if __name__ == "__main__":
    main()
