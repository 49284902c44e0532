"""Quality of embeddings: Spearman correlation with people's judgement on the STS benchmark, beside torch.

    python -m onnxpipe_bench.sts BUNDLE --model FOLDER [--data stsb-en-dev.csv]

The reference is sentence-transformers on the same model folder.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnxpipe.load import load_model, make_pipeline
from onnxpipe_bench.measure import TEST_DATA, write_result

Floats = NDArray[np.float64]


def main() -> None:
    """Score torch and every precision of a bundle, and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--model", required=True, help="the folder the bundle was exported from")
    parser.add_argument("--data", type=Path, default=TEST_DATA / "text" / "sts" / "stsb-en-dev.csv")
    args = parser.parse_args()
    with args.data.open(encoding="utf-8", newline="") as file:
        pairs = [(first, second, float(score)) for first, second, score in csv.reader(file)]
    texts = [text for first, second, _ in pairs for text in (first, second)]
    judged = np.array([score for _, _, score in pairs])

    reference = embed_with_torch(args.model, texts)
    rows = [{"engine": "sentence-transformers (torch)", "spearman": score(reference, judged)}]
    for precision in load_model(args.bundle).bundle.manifest.variants:
        model = load_model(args.bundle, precision=precision)
        vectors = np.stack(make_pipeline(model, "feature-extraction")(texts)).astype(np.float64)
        cosines = (
            (vectors * reference).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(reference, axis=1)
        )
        rows.append(
            {
                "engine": f"onnxpipe {precision}",
                "spearman": score(vectors, judged),
                "cosine_mean": round(float(cosines.mean()), 6),
                "cosine_worst": round(float(cosines.min()), 6),
            }
        )
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    result = {"model": model.bundle.manifest.id, "data": args.data.name, "pairs": len(pairs), "rows": rows}
    print(f"-> {write_result('sts', result)}")


def embed_with_torch(folder: str, texts: list[str]) -> Floats:
    """sentence-transformers' embeddings (B, D)."""
    from sentence_transformers import SentenceTransformer

    vectors: Floats = SentenceTransformer(folder, device="cpu").encode(texts, batch_size=64).astype(np.float64)
    return vectors


def score(vectors: Floats, judged: Floats) -> float:
    """Spearman x 100 between the cosines of neighbouring vectors (0 and 1, 2 and 3, ...) and the judgements."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return round(100 * spearman((units[::2] * units[1::2]).sum(axis=1), judged), 4)


def spearman(left: Floats, right: Floats) -> float:
    """The correlation of ranks, ties ranked by their mean."""
    return float(np.corrcoef(ranks(left), ranks(right))[0, 1])


def ranks(values: Floats) -> Floats:
    """The rank of each value from 1, equal values sharing the mean of theirs."""
    _, groups, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_ranks: Floats = (last - (counts - 1) / 2)[groups]
    return mean_ranks


if __name__ == "__main__":
    main()
