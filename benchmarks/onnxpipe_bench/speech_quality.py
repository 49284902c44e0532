"""Errors on real speech: a small recogniser and a keyword classifier trained here, torch beside their bundles.

    python -m onnxpipe_bench.speech_quality [--cache .cache/speech-quality] [--epochs 12]

Both learn digits and commands from espeak-ng's voices in a few minutes, and are tested on voices that they never heard.
Words that are wrong of a hundred that were said (the word error rate), and accuracy on single words in points; with
95 % intervals from resampling the utterances.
"""

import argparse
import dataclasses
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from onnxpipe.audio.features import normalize_samples
from onnxpipe.audio.waveform import Audio
from onnxpipe.load import load_model, make_pipeline
from onnxpipe_bench.datasets import Dataset, Example
from onnxpipe_bench.measure import write_result
from onnxpipe_bench.quality import compare
from onnxpipe_bench.speech import TEST_VOICES, TRAIN_VOICES, WORDS, NoSpeakerError, Utterance, speak, word_errors
from onnxpipe_export.export import export

Floats = NDArray[np.float32]
Module = Any  # a torch module or a tensor: torch is untyped here

_RATE = 16_000
_BATCH = 16
_LEARNING_RATE = 2e-3
_RESAMPLES = 2000
_LETTERS = sorted({letter for word in WORDS for letter in word})
VOCABULARY = {"<pad>": 0, "<unk>": 1, "|": 2, **{letter: index for index, letter in enumerate(_LETTERS, 3)}}

# wav2vec2's shape with fewer and wider steps from samples to frames, of 20 ms all the same
SIZES = {
    "conv_dim": (64, 96, 128),
    "conv_kernel": (20, 12, 8),
    "conv_stride": (10, 8, 4),
    "conv_bias": True,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 8,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "activation_dropout": 0.0,
    "final_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.0,
    "mask_feature_prob": 0.0,
}


@dataclasses.dataclass(frozen=True)
class Amounts:
    """How many utterances are trained and tested on, and how often."""

    train: int = 1200
    test: int = 400
    epochs: int = 12


def main() -> None:
    """Train what is missing, measure every engine and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/speech-quality"))
    parser.add_argument("--epochs", type=int, default=Amounts.epochs)
    args = parser.parse_args()
    try:
        rows = measure(args.cache, Amounts(epochs=args.epochs))
    except NoSpeakerError as error:
        # no failure: `make bench` has others to run
        print(f"speech_quality is left out: {error}")
        return
    result = {"model": "small models trained on espeak-ng's voices", "rows": rows}
    print(f"-> {write_result('speech_quality', result)}")


def measure(cache: Path, amounts: Amounts) -> list[dict[str, Any]]:
    """A row for each task and engine; what is in `cache` is not made again."""
    speller, classifier = cache / "speller", cache / "classifier"
    rows = []
    if not (speller / "model/model.safetensors").is_file():
        fit_speller(speak(TRAIN_VOICES, amounts.train, cache / "train"), speller / "model", amounts.epochs)
    test = speak(TEST_VOICES, amounts.test, cache / "test")
    rows += [
        {"task": "words of utterances, wrong", **row}
        for row in compare_errors(test, _answers("automatic-speech-recognition", speller, test))
    ]
    if not (classifier / "model/model.safetensors").is_file():
        words = speak(TRAIN_VOICES, amounts.train, cache / "train-words", words=1)
        fit_classifier(words, speller / "model", classifier / "model", max(1, amounts.epochs // 3))
    test = speak(TEST_VOICES, amounts.test, cache / "test-words", words=1)
    given = _answers("audio-classification", classifier, test)
    examples = Dataset([], [Example("", label=utterance.text) for utterance in test])
    rows += [
        {"task": "single words, right", **row}
        for row in compare(examples, {engine: [(text,) for text in texts] for engine, texts in given.items()})
    ]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return rows


def _answers(task: str, folder: Path, test: Sequence[Utterance]) -> dict[str, list[str]]:
    """What transformers' own pipeline and each precision of a fresh bundle hear in each utterance."""
    import transformers

    export(folder / "model", folder / "bundle", bundle_id=folder.name, force=True)
    reference = transformers.pipeline(task, str(folder / "model"), device="cpu")
    # decoded by us, as the pipeline would by asking ffmpeg
    samples = [hear(utterance) for utterance in test]
    if task == "audio-classification":
        answers = {"torch": [reference(sound, top_k=1)[0]["label"] for sound in samples]}
    else:
        answers = {"torch": [reference(sound)["text"] for sound in samples]}
    files = [utterance.file for utterance in test]
    for precision in load_model(folder / "bundle").bundle.manifest.variants:
        given = make_pipeline(load_model(folder / "bundle", precision=precision))(files)
        answers[precision] = [item.text if hasattr(item, "text") else item[0].label for item in given]
    return answers


def hear(utterance: Utterance) -> Floats:
    """An utterance's samples."""
    return Audio.read(utterance.file).samples(_RATE)


def compare_errors(test: Sequence[Utterance], answers: dict[str, list[str]]) -> list[dict[str, Any]]:
    """A row per engine: its word error rate, its difference to the first engine, and the share of equal texts."""
    reference = next(iter(answers))
    said = np.array([len(utterance.text.split()) for utterance in test])
    errors = {
        engine: np.array([word_errors(utterance.text, text) for utterance, text in zip(test, texts, strict=True)])
        for engine, texts in answers.items()
    }
    draws = np.random.default_rng(0).integers(0, len(test), (_RESAMPLES, len(test)))
    drawn = {engine: 100 * wrong[draws].sum(axis=1) / said[draws].sum(axis=1) for engine, wrong in errors.items()}
    rates = {engine: 100 * wrong.sum() / said.sum() for engine, wrong in errors.items()}
    return [
        {
            "engine": engine,
            "score": round(float(rates[engine]), 2),
            "interval": _interval(drawn[engine]),
            "difference": round(float(rates[engine] - rates[reference]), 2),
            "difference_interval": _interval(drawn[engine] - drawn[reference]),
            "same_answers": round(100 * float(np.mean(np.array(texts) == np.array(answers[reference]))), 2),
        }
        for engine, texts in answers.items()
    ]


def _interval(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 2) for value in np.percentile(values, [2.5, 97.5])]


def fit_speller(utterances: Sequence[Utterance], out: Path, epochs: int) -> None:
    """Train a recogniser from random weights, and write it with its vocabulary to `out` in hub layout."""
    import torch
    import transformers

    out.mkdir(parents=True, exist_ok=True)
    (out / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(out / "vocab.json"))
    transformers.Wav2Vec2Processor(_extractor(), tokenizer).save_pretrained(out)
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(**SIZES, vocab_size=len(VOCABULARY), ctc_zero_infinity=True)
    model = transformers.Wav2Vec2ForCTC(config)
    targets = [[VOCABULARY[letter] for letter in utterance.text.replace(" ", "|")] for utterance in utterances]

    def loss(batch: Sequence[int], inputs: dict[str, Module]) -> Module:
        longest = max(len(targets[index]) for index in batch)
        # what is below 0 fills a row and is no target
        labels = torch.tensor([targets[index] + [-100] * (longest - len(targets[index])) for index in batch])
        return model(**inputs, labels=labels).loss / len(batch)

    _fit(model, [hear(utterance) for utterance in utterances], loss, epochs)
    model.eval().save_pretrained(out, safe_serialization=True)


def fit_classifier(utterances: Sequence[Utterance], speller: Path, out: Path, epochs: int) -> None:
    """Train a classifier of single words from a recogniser's body, and write it to `out` in hub layout."""
    import torch
    import transformers

    labels = {"id2label": dict(enumerate(WORDS)), "label2id": {word: index for index, word in enumerate(WORDS)}}
    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForSequenceClassification.from_pretrained(speller, **labels)

    def loss(batch: Sequence[int], inputs: dict[str, Module]) -> Module:
        return model(**inputs, labels=torch.tensor([WORDS.index(utterances[index].text) for index in batch])).loss

    _fit(model, [hear(utterance) for utterance in utterances], loss, epochs)
    model.eval().save_pretrained(out, safe_serialization=True)
    _extractor().save_pretrained(out)


def _extractor() -> Any:  # a feature extractor
    import transformers

    return transformers.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)


def _fit(
    model: Module, sounds: Sequence[Floats], loss: Callable[[Sequence[int], dict[str, Module]], Module], epochs: int
) -> None:
    """AdamW with a linear schedule, seeded; batches of sounds of nearly one length, a little noise in each."""
    import torch
    import transformers

    torch.set_num_threads(1)  # threads that wait for each other cost models this small more than they gain
    order = sorted(range(len(sounds)), key=lambda index: len(sounds[index]))
    groups = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    draws = random.Random(0)  # noqa: S311 - the same order every time
    batches = [group for _ in range(epochs) for group in draws.sample(groups, len(groups))]
    optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=0.01)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, len(batches) // 10, len(batches))
    model.train()
    noise = np.random.default_rng(0)
    for batch in (bar := tqdm(batches, desc="train", disable=None)):
        longest = max(len(sounds[index]) for index in batch)
        rows = np.zeros((len(batch), longest), np.float32)
        mask = np.zeros(rows.shape, np.int64)
        for row, ones, index in zip(rows, mask, batch, strict=True):
            size = len(sounds[index])
            loud = sounds[index] + noise.normal(0, 0.01 * noise.random(), size).astype(np.float32)
            row[:size], ones[:size] = normalize_samples(loud, size), 1
        value = loss(batch, {"input_values": torch.from_numpy(rows), "attention_mask": torch.from_numpy(mask)})
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        bar.set_postfix(loss=f"{value.item():.3f}")


if __name__ == "__main__":
    main()
