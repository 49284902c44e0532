"""What a pipeline call costs over the bare work: tokenise + `session.run` with nothing around them, at batch 1.

python -m onnxpipe_bench.overhead BUNDLE [--repeats 300]
"""

import argparse
import statistics
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import tokenizers

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.session import Session
from onnxpipe_bench.measure import interleave, percentiles, write_result

# tokens of the input as BERT tokenisers count "word", special ones included
_LENGTHS = (16, 64, 256)


def main() -> None:
    """Measure every precision of a bundle and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--repeats", type=int, default=300)
    args = parser.parse_args()
    rows = []
    print(f"{'precision':<10} {'tokens':>6} {'bare p50':>9} {'call p50':>9} {'overhead':>9}  (ms)")
    for precision in load_model(args.bundle).bundle.manifest.variants:
        model = load_model(args.bundle, precision=precision)
        pipeline = make_pipeline(model, "feature-extraction")
        bare = bare_call(model)
        for length in _LENGTHS:
            text = "word " * (length - 2)
            tokens = len(model.tokenizer.encode(text).ids)
            figures = measure_overhead(lambda: bare(text), lambda: pipeline(text), args.repeats)  # noqa: B023
            rows.append({"precision": precision, "tokens": tokens, **figures})
            print(f"{precision:<10} {tokens:>6} {line(figures)}")
    print(f"-> {write_result('overhead', {'model': model.bundle.manifest.id, 'repeats': args.repeats, 'rows': rows})}")


def measure_overhead(bare: Callable[[], object], call: Callable[[], object], repeats: int) -> dict[str, Any]:
    """Percentiles of both in milliseconds, and the median of differences of neighbours in time.

    That is steadier than the difference of medians.
    """
    times = interleave({"bare": bare, "call": call}, repeats=repeats)
    differences = [given - base for given, base in zip(times["call"], times["bare"], strict=True)]
    return {
        "bare_ms": percentiles(times["bare"]),
        "call_ms": percentiles(times["call"]),
        "overhead_ms": round(statistics.median(differences), 3),
    }


def line(figures: dict[str, Any]) -> str:
    """The medians in the columns of the table on the terminal."""
    return f"{figures['bare_ms']['p50']:>9.3f} {figures['call_ms']['p50']:>9.3f} {figures['overhead_ms']:>9.3f}"


def bare_call(model: Model) -> Callable[[str], object]:
    """Tokenise and run, and nothing else.

    On the runtime's own onnxruntime session, behind its face: a second copy of the weights would compete for the
    processor's cache and cost whichever call comes next.
    """
    session = cast("Session", model.sessions["model"])._session
    tokenizer = tokenizers.Tokenizer.from_file(str(model.bundle.file("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    names = {node.name for node in session.get_inputs()}

    def call(text: str) -> object:
        encoding = tokenizer.encode(text)
        feeds = {
            "input_ids": np.array([encoding.ids], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask], dtype=np.int64),
            "token_type_ids": np.array([encoding.type_ids], dtype=np.int64),
        }
        return session.run(None, {name: feeds[name] for name in names})

    return call


if __name__ == "__main__":
    main()
