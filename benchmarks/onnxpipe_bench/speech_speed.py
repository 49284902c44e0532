"""Ten seconds of sound to text, beside transformers' own pipeline; a first answer, and the memory of an hour.

    python -m onnxpipe_bench.speech_speed [--cache .cache/speech-speed] [--repeats 15]

The model has the shape of wav2vec2-base and random weights: speed does not care. Candidates take turns; the reference
gets samples at its own rate, ours those and the same sound as a FLAC file of 44.1 kHz in stereo, of which it is told
how much of the time goes to decoding, resampling and features. A process of its own loads the model and answers once;
another hears an hour with a tiny model.
"""

import argparse
import functools
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import AnyPipeline
from onnxpipe_bench.measure import interleave, percentiles, write_result

_RATE = 16_000
_SECONDS = 10
_HOUR = 3600
_PRECISIONS = ("fp32", "int8")
_VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}

# In a fresh process: milliseconds from nothing to an answer, and MB at the peak beyond what was there when the model
# was loaded. Not ru_maxrss, which starts with that of the process that forked.
_PROBE = """
import json, sys, time
begin = time.perf_counter()
import onnxpipe
bundle, precision, file = sys.argv[1:]
recognize = onnxpipe.load(bundle, precision=precision)
def megabytes(name):
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status[name].split()[0]) / 1024
loaded, memory = time.perf_counter(), megabytes("VmRSS")
recognize(file)
answered = time.perf_counter()
print(json.dumps({
    "load_ms": 1e3 * (loaded - begin), "first_answer_ms": 1e3 * (answered - begin), "model_mb": memory,
    "peak_mb": megabytes("VmHWM"),
}))
"""


def main() -> None:
    """Make what is missing, measure every candidate and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/speech-speed"))
    parser.add_argument("--repeats", type=int, default=15)
    args = parser.parse_args()
    base, tiny = make_bundle(args.cache / "base", {}), make_bundle(args.cache / "tiny", TINY)
    rows = measure(args.cache / "base/model", base, args.repeats)
    files = {"file": args.cache / "ten-seconds.flac", "hour": args.cache / "hour.flac"}
    files["file"].write_bytes(as_flac(_SECONDS))
    if not files["hour"].is_file():
        files["hour"].write_bytes(as_flac(_HOUR, rate=_RATE, channels=1))
    for row in rows:
        if row["engine"] in _PRECISIONS:
            probes = [probe(base, row["engine"], files["file"]) for _ in range(5)]
            row["first_answer_ms"] = round(float(np.median([item["first_answer_ms"] for item in probes])), 1)
            row["load_ms"] = round(float(np.median([item["load_ms"] for item in probes])), 1)
    hour = {precision: probe(tiny, precision, files["hour"]) for precision in _PRECISIONS}
    memory = {name: {key: round(value, 1) for key, value in item.items()} for name, item in hour.items()}
    for name, item in memory.items():
        print(f"an hour, tiny {name}: {item}")
    result = {"model": "wav2vec2-base's shape, random weights", "seconds": _SECONDS, "rows": rows, "hour": memory}
    print(f"-> {write_result('speech_speed', result)}")


def make_bundle(folder: Path, config: dict[str, Any]) -> Path:
    """A random model in hub layout below `folder`, and its bundle in both precisions."""
    bundle = folder / "bundle"
    if not (bundle / "manifest.json").is_file():
        import torch
        import transformers

        from onnxpipe_export.export import export

        model = folder / "model"
        model.mkdir(parents=True, exist_ok=True)
        file = model / "vocab.json"
        file.write_text(json.dumps({token: index for index, token in enumerate(_VOCABULARY)}), encoding="utf-8")
        transformers.Wav2Vec2Processor(
            transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False),
            transformers.Wav2Vec2CTCTokenizer(str(file)),
        ).save_pretrained(model)
        torch.manual_seed(0)
        network = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(vocab_size=len(_VOCABULARY), **config))
        network.save_pretrained(model, safe_serialization=True)
        export(model, bundle, precisions=_PRECISIONS, force=True)
    return bundle


def measure(model: Path, bundle: Path, repeats: int) -> list[dict[str, Any]]:
    """Milliseconds of ten seconds of sound for each engine, and what of ours goes to all but the model."""
    import torch
    import transformers

    loaded = {precision: load_model(bundle, precision=precision) for precision in _PRECISIONS}
    pipelines: dict[str, AnyPipeline] = {name: make_pipeline(item) for name, item in loaded.items()}
    torch.set_num_threads(next(iter(loaded.values())).sessions["model"].threads)
    reference = transformers.pipeline("automatic-speech-recognition", str(model), device="cpu")
    samples, flac = make_sound(_SECONDS, _RATE)[0], as_flac(_SECONDS)
    given = {"array": samples, "sampling_rate": _RATE}
    times = interleave(
        {
            "transformers": lambda: reference(samples.copy()),
            **{name: functools.partial(ask, given) for name, ask in pipelines.items()},
            **{f"{name}, FLAC": functools.partial(ask, flac) for name, ask in pipelines.items()},
            "features": lambda: _preprocess(pipelines["fp32"], flac),
        },
        repeats=repeats,
        warm_up=2,
    )
    figures = {name: percentiles(values) for name, values in times.items()}
    baseline = figures["transformers"]["p50"]
    rows: list[dict[str, Any]] = [{"engine": "transformers", "call_ms": figures["transformers"], "ratio": 1.0}]
    for name in _PRECISIONS:
        row = {
            "engine": name,
            "call_ms": figures[name],
            "ratio": round(baseline / figures[name]["p50"], 2),
            "file_ms": figures[f"{name}, FLAC"],
            "features_ms": figures["features"],
            "features_share": round(figures["features"]["p50"] / figures[f"{name}, FLAC"]["p50"], 4),
        }
        rows.append(row)
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return rows


def _preprocess(pipeline: AnyPipeline, file: bytes) -> object:
    """A file decoded, mixed, resampled and normalised."""
    (sound,) = pipeline.check_inputs([file])
    return pipeline.preprocess(sound, pipeline.types()[1]())


def make_sound(seconds: int, rate: int, channels: int = 1) -> NDArray[np.float32]:
    """A buzz with the rhythm of syllables and some breath (channels, N)."""
    time = np.arange(seconds * rate, dtype=np.float64) / rate
    buzz = np.sin(2 * np.pi * 120 * time + 3 * np.sin(5 * time)) * np.sin(9 * time) ** 2
    noise = np.random.default_rng(0).normal(0, 0.02, (channels, len(time)))
    sound: NDArray[np.float32] = (0.3 * buzz + noise).astype(np.float32)
    return sound


def as_flac(seconds: int, *, rate: int = 44_100, channels: int = 2) -> bytes:
    """The sound as a FLAC file."""
    import soundfile

    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", rate, channels, format="FLAC", subtype="PCM_16") as file:
        minute = make_sound(min(seconds, 60), rate, channels).T
        for _ in range(max(1, seconds // 60)):
            file.write(minute)
    return content.getvalue()


def probe(bundle: Path, precision: str, file: Path) -> dict[str, float]:
    """What a fresh process measures of its first answer."""
    command = [sys.executable, "-c", _PROBE, str(bundle.absolute()), precision, str(file.absolute())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    values: dict[str, float] = json.loads(done.stdout)
    return values


if __name__ == "__main__":
    main()
