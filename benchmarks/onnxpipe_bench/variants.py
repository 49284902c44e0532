"""What each precision of an embedding model costs and gains: quality, batches, speed and size, beside fp32.

    python -m onnxpipe_bench.variants BUNDLE [--work FOLDER] [--data stsb-en-dev.csv]

Precisions that the bundle lacks are made in a copy of it as `onnxpipe quantize` makes them, with nothing chosen by hand
and none of the sentences that are scored.
"""

import argparse
import csv
import functools
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.batching import run_rows
from onnxpipe.bundle import open_bundle
from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe_bench.measure import TEST_DATA, interleave, write_result
from onnxpipe_bench.sts import Floats, score
from onnxpipe_export.add_variants import add_variants

PRECISIONS = ("int8", "int8-static", "int8-weights", "int4-weights", "fp16")
LENGTHS = (16, 64, 256)
# of which random tokens are drawn
VOCABULARY = (1000, 20_000)


def main() -> None:
    """Measure every precision and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--work", type=Path, default=Path(".cache/variants"), help="where the copy is kept")
    parser.add_argument("--data", type=Path, default=TEST_DATA / "text" / "sts" / "stsb-en-dev.csv")
    parser.add_argument("--repeats", type=int, default=60)
    args = parser.parse_args()
    bundle = args.work / args.bundle.name
    if not (bundle / "manifest.json").is_file():
        shutil.copytree(args.bundle, bundle)
    missing = [name for name in PRECISIONS if name not in open_bundle(bundle).manifest.variants]
    if missing:
        add_variants(bundle, missing, timed=False, show_progress=True)
    with args.data.open(encoding="utf-8", newline="") as file:
        pairs = [(first, second, float(mark)) for first, second, mark in csv.reader(file)]
    texts = [text for first, second, _ in pairs for text in (first, second)]
    judged = np.array([mark for _, _, mark in pairs])
    models = {name: load_model(bundle, precision=name) for name in open_bundle(bundle).manifest.variants}
    ratios = measure_speed(models, args.repeats)
    rows = describe(models, texts, judged)
    for row in rows:
        row["speed"] = ratios[row["precision"]]
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
    result = {"model": open_bundle(bundle).manifest.id, "data": args.data.name, "pairs": len(pairs), "rows": rows}
    print(f"-> {write_result('variants', result)}")


def describe(models: dict[str, Model], texts: list[str], judged: Floats) -> list[dict[str, Any]]:
    """A row per precision: quality on the sentences, run alone and in padded batches, and what the manifest says."""
    rows = []
    reference: Floats | None = None
    for name, model in models.items():
        variant = model.bundle.manifest.variants[name]
        vectors = embed(model, texts)
        reference = vectors if reference is None else reference
        cosines = (vectors * reference).sum(axis=1)
        files = (*variant.files.values(), *variant.external_data)
        rows.append(
            {
                "precision": name,
                "mb": round(sum(model.bundle.file(file).stat().st_size for file in files) / 1e6, 1),
                "spearman": score(vectors, judged),
                "cosine_mean": round(float(cosines.mean()), 6),
                "cosine_worst": round(float(cosines.min()), 6),
                "batch_invariant": variant.batch_invariant,
                "batch_cosine_worst": round(float(batch_cosines(model, texts[:256]).min()), 6),
                "safer_forms": len(variant.kept),
            }
        )
    return rows


def embed(model: Model, texts: list[str]) -> Floats:
    """Vectors (B, D) of length 1; of models without pooling, the means over tokens."""
    answers = make_pipeline(model, "feature-extraction")(texts, normalize=True)
    found: Floats = np.stack([answer.reshape(-1, answer.shape[-1]).mean(axis=0) for answer in answers]).astype(
        np.float64
    )
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def batch_cosines(model: Model, texts: list[str]) -> Floats:
    """How near each text's states, run alone, are to those from a padded batch of all, whatever the manifest says."""
    pipeline = make_pipeline(model, "feature-extraction")
    parameters = pipeline.types()[1]()
    rows = [row for text in pipeline.check_inputs(texts) for row in pipeline.preprocess(text, parameters).rows]
    alone, together = (
        run_rows(model.sessions["model"], model.graph(), rows, together=together) for together in (False, True)
    )
    name = model.graph().outputs[0].name
    cosines = []
    for one, other in zip(alone, together, strict=True):
        left, right = (outputs[name].mean(axis=0).astype(np.float64) for outputs in (one, other))
        cosines.append(left @ right / np.linalg.norm(left) / np.linalg.norm(right))
    return np.array(cosines)


def measure_speed(models: dict[str, Model], repeats: int) -> dict[str, dict[str, float]]:
    """By precision and tokens: how many times as fast as fp32, medians of runs that take turns."""
    found: dict[str, dict[str, float]] = {name: {} for name in models}
    for length in LENGTHS:
        feeds = {
            "input_ids": np.random.default_rng(0).integers(*VOCABULARY, (1, length)),
            "attention_mask": np.ones((1, length), np.int64),
            "token_type_ids": np.zeros((1, length), np.int64),
        }
        wanted = {tensor.name: feeds[tensor.name] for tensor in models["fp32"].graph().inputs}
        calls = {name: functools.partial(model.sessions["model"].run, wanted) for name, model in models.items()}
        times = interleave(calls, repeats=repeats)
        for name, taken in times.items():
            found[name][str(length)] = round(float(np.median(times["fp32"]) / np.median(taken)), 3)
    return found


if __name__ == "__main__":
    main()
