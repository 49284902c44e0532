"""Parts of a model of sound in 8-bit integers: what each costs and gains beside float.

    python -m onnxpipe_bench.speech_quantization [--speed .cache/speech-speed] [--quality .cache/speech-quality]

Time and size are those of wav2vec2-base's shape on ten seconds of sound, words that are wrong those of the recogniser
that `speech_quality` has trained, whose graphs become integers in the same parts. Candidates take turns.
"""

import argparse
import dataclasses
import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.session import Session
from onnxpipe_bench.measure import interleave, percentiles, write_result
from onnxpipe_bench.speech import TEST_VOICES, NoSpeakerError, Utterance, speak, word_errors
from onnxpipe_bench.speech_speed import make_bundle
from onnxpipe_export.static import prepare

_SAMPLES = 160_000

# way -> the convolutions that become integers beside the products: the last gives positions, those before the front end
WAYS = {
    "products": slice(0, 0),
    "products, front end": slice(0, -1),
    "products, positions": slice(-1, None),
}


def main() -> None:
    """Make every form of both models, time the large and test the trained one, and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speed", type=Path, default=Path(".cache/speech-speed"))
    parser.add_argument("--quality", type=Path, default=Path(".cache/speech-quality"))
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    trained = args.quality / "speller/bundle"
    with tempfile.TemporaryDirectory() as folder:
        rows = time_ways(make_bundle(args.speed / "base", {}), Path(folder), args.repeats)
        try:
            test = speak(TEST_VOICES, 400, args.quality / "test") if (trained / "manifest.json").is_file() else []
        except NoSpeakerError as error:
            print(f"no words are tested: {error}")
            test = []
        for row in rows:
            row["word_errors"] = wrong_words(trained, row["way"], test, Path(folder)) if test else None
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    result = {"model": "wav2vec2-base's shape, random weights; words of a small trained one", "rows": rows}
    print(f"-> {write_result('speech_quantization', result)}")


def time_ways(bundle: Path, folder: Path, repeats: int) -> list[dict[str, Any]]:
    """A row for float and each way: milliseconds of ten seconds of sound, speed beside float, and megabytes."""
    files = make_ways(bundle, folder)
    sound = np.random.default_rng(0).standard_normal((1, _SAMPLES)).astype(np.float32)
    calls = {way: functools.partial(Session(file).run, {"input_values": sound}) for way, file in files.items()}
    times = {way: percentiles(values) for way, values in interleave(calls, repeats=repeats, warm_up=1).items()}
    return [
        {
            "way": way,
            "ms": times[way],
            "speed": round(times["float"]["p50"] / times[way]["p50"], 2),
            "mb": round(file.stat().st_size / 1e6, 1),
        }
        for way, file in files.items()
    ]


def wrong_words(bundle: Path, way: str, test: Sequence[Utterance], folder: Path) -> float:
    """Words that are wrong of a hundred, by the bundle's model in that form."""
    file = make_ways(bundle, folder, [way])[way]
    model = dataclasses.replace(load_model(bundle), sessions={"model": Session(file)})
    heard = make_pipeline(model)([utterance.file for utterance in test])
    wrong = sum(word_errors(utterance.text, item.text) for utterance, item in zip(test, heard, strict=True))
    return round(100 * wrong / sum(len(utterance.text.split()) for utterance in test), 2)


def make_ways(bundle: Path, folder: Path, ways: Sequence[str] = ("float", *WAYS)) -> dict[str, Path]:
    """The graph of an fp32 bundle in each form; those that have to be made are written to `folder`."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source = folder / "float.onnx"
    # the weights of the convolution for positions are no constants before
    convolutions = [node.name for node in prepare(bundle / "onnx/model.onnx", source).node if node.op_type == "Conv"]
    files = {"float": source} if "float" in ways else {}
    for way in ways:
        if way == "float":
            continue
        files[way] = folder / f"{way}.onnx"
        quantize_dynamic(
            source,
            files[way],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            nodes_to_exclude=sorted({*convolutions} - {*convolutions[WAYS[way]]}),
        )
    return files


if __name__ == "__main__":
    main()
