"""Perplexity of a small Llama that learns Shakespeare here: torch beside every precision of its bundle.

    python -m onnxpipe_bench.language_quality [--cache .cache/language-quality]

It reads three plays up to their last fifth for some minutes, and is asked how likely the rest is. The engines' log
probabilities are those the runtime gives for the tokens of a prompt. Perplexities with 95 % intervals from resampling
windows of the rest. That leaves out the luck of rounding, by which coarser weights may come out ahead; the divergence
from torch's distributions is steadier, and tells the block sizes of int4 apart.
"""

import argparse
import dataclasses
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from onnxpipe.arrays import Floats
from onnxpipe.bundle import open_bundle
from onnxpipe.generation.decoder import Decoder, Ids
from onnxpipe.generation.options import resolve
from onnxpipe.generation.scores import log_softmax
from onnxpipe.generation.writer import Writer, write_all
from onnxpipe.load import load_model
from onnxpipe.pipeline import Model
from onnxpipe.session import Session
from onnxpipe_bench.measure import TEST_DATA, write_result
from onnxpipe_export.export import export
from onnxpipe_export.generation.weights import quantize_blocks

WINDOW = 128  # tokens whose probabilities are asked for at once; one more stands before them
BLOCK_SIZES = (32, 64)  # of int4
_PLAYS = ("hamlet", "macbeth", "r_and_j")
_HELD_OUT = 0.2  # of each play, its end
_END = "<|endoftext|>"  # begins every play, too
_RESAMPLES = 2000
_TOGETHER = 32  # windows
_SAME = 1e-4  # how far fp32 may be from torch, as a part of its perplexity


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A Llama's sizes, by transformers' names, and how it is trained: `steps` of `batch` windows at random places."""

    vocabulary: int
    config: Mapping[str, object]
    steps: int
    batch: int
    learning_rate: float


RECIPE = Recipe(
    vocabulary=2000,
    config={
        "hidden_size": 256,
        "intermediate_size": 704,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        # a whole window and what is written behind it
        "max_position_embeddings": 2 * WINDOW,
        "tie_word_embeddings": True,
        "attention_dropout": 0.1,
    },
    steps=800,
    batch=8,
    learning_rate=2e-3,
)


@dataclasses.dataclass(frozen=True)
class Scores:
    """What an engine makes of windows (W, T): each token's log probability, and the token it holds likeliest there.

    `divergence` (W, T) is from torch's distribution of each token to the engine's (Kullback-Leibler, in nats).
    """

    logprobs: NDArray[np.float64]
    likeliest: Ids
    divergence: NDArray[np.float64]


def main() -> None:
    """Train what is missing, measure every engine and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path(".cache/language-quality"))
    args = parser.parse_args()
    train, test = split_plays()
    folder, bundle = args.cache / "model", args.cache / "bundle"
    if not (folder / "model.safetensors").is_file():
        fit(RECIPE, train, folder)
    report = export(folder, bundle, bundle_id="shakespeare", precisions=["fp32", "int8", "int4"], force=True)
    windows = make_windows(folder, test)
    distributions = torch_distributions(folder, windows)
    scores = {"torch": torch_scores(distributions, windows)}
    megabytes = {"torch": _megabytes(folder / "model.safetensors")}
    for engine, (model, file) in engines(bundle, args.cache / "blocks").items():
        scores[engine] = bundle_scores(model, windows, distributions)
        megabytes[engine] = _megabytes(file)
    rows = [{**row, "megabytes": megabytes[row["engine"]]} for row in compare(scores)]
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    result = {
        "model": "a small Llama trained on Shakespeare",
        "recipe": dataclasses.asdict(RECIPE),
        "windows": len(windows),
        "tokens": len(windows) * WINDOW,
        "refused": {outcome.precision: list(outcome.problems) for outcome in report.refused},
        "rows": rows,
        "block_sizes": compare({_blocks(size): scores[_blocks(size)] for size in BLOCK_SIZES}),
    }
    print(f"-> {write_result('language_quality', result)}")
    fp32 = next(row for row in rows if row["engine"] == "fp32")
    if abs(fp32["relative"]) > _SAME:
        raise RuntimeError(f"fp32's perplexity is {fp32['relative']:+.2e} from torch's, at most {_SAME:g} is allowed")


def split_plays() -> tuple[list[str], list[str]]:
    """Three plays up to their last fifth, and the rest of them, cut between two speeches."""
    train, test = [], []
    for name in _PLAYS:
        root = ElementTree.parse(TEST_DATA / f"text/corpora/shakespeare_{name}.xml").getroot()  # noqa: S314
        speeches = [
            "".join(f"{''.join(part.itertext()).strip()}\n" for part in speech if part.tag in ("SPEAKER", "LINE"))
            for speech in root.iter("SPEECH")
        ]
        ends = np.cumsum([len(speech) for speech in speeches])
        cut = int(np.searchsorted(ends, (1 - _HELD_OUT) * ends[-1]))
        train.append("\n".join(speeches[:cut]))
        test.append("\n".join(speeches[cut:]))
    return train, test


def make_windows(folder: Path, texts: Sequence[str]) -> Ids:
    """Windows (W, 1 + T) of the texts' tokens by the tokenizer in `folder`; a text's last ones that fill none are left.

    Each begins with the last token of the one before: every token behind a text's first is asked for once.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    windows: list[Ids] = []
    for text in texts:
        ids = np.array(tokenizer(text, verbose=False)["input_ids"], np.int64)
        windows += [ids[start : start + WINDOW + 1] for start in range(0, len(ids) - WINDOW, WINDOW)]
    return np.stack(windows)


def fit(recipe: Recipe, texts: Sequence[str], out: Path) -> None:
    """Train a tokenizer and a Llama on texts from random weights, and write both to `out` in hub layout.

    Byte pairs on bytes; AdamW with a cosine schedule, seeded, on one thread: the same machine gives the same weights.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(texts, recipe.vocabulary)
    end = tokenizer.eos_token_id
    ids = torch.tensor([token for text in texts for token in (end, *tokenizer(text, verbose=False)["input_ids"])])
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, pad_token_id=end, **recipe.config
    )
    model = transformers.LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, recipe.steps // 20, recipe.steps)
    model.train()
    for _ in tqdm(range(recipe.steps), desc=f"train {out.parent.name}", disable=None):
        starts = torch.randint(len(ids) - WINDOW, (recipe.batch, 1))
        batch = ids[starts + torch.arange(WINDOW + 1)]
        model(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:  # transformers has no types here
    """Byte pairs of the texts, as GPT-2's tokenizer makes and reads them."""
    import tokenizers
    import transformers

    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token=_END, eos_token=_END, pad_token=_END, model_max_length=2 * WINDOW
    )


def engines(bundle: Path, blocks: Path) -> dict[str, tuple[Model, Path]]:
    """Every precision of a bundle, and int4 in blocks of each size, written to folder `blocks`; with its file."""
    found: dict[str, tuple[Model, Path]] = {}
    for precision in open_bundle(bundle).manifest.variants:
        model = load_model(bundle, precision=precision)
        found[precision] = model, model.bundle.file(model.variant.files["decoder"])
    model, source = found["fp32"]
    blocks.mkdir(parents=True, exist_ok=True)
    for size in BLOCK_SIZES:
        file = blocks / f"decoder_{size}.onnx"
        quantize_blocks(source, file, bits=4, block_size=size)
        found[_blocks(size)] = dataclasses.replace(model, sessions={"decoder": Session(file)}), file
    return found


def _blocks(size: int) -> str:
    return f"int4 in blocks of {size}"


def torch_distributions(folder: Path, windows: Ids) -> Floats:
    """Log probabilities (W, T, V) of every token at every place by transformers' own model, some windows at a time."""
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    found: list[Floats] = []
    with torch.inference_mode():
        for start in range(0, len(windows), _TOGETHER):
            ids = torch.from_numpy(windows[start : start + _TOGETHER, :-1])
            found.append(model(ids).logits.log_softmax(-1).numpy())
    return np.concatenate(found)


def torch_scores(distributions: Floats, windows: Ids) -> Scores:
    """The same of the windows' own tokens."""
    logprobs = np.take_along_axis(distributions, windows[:, 1:, None], axis=-1)[..., 0].astype(np.float64)
    return Scores(logprobs, distributions.argmax(-1), np.zeros_like(logprobs))


def bundle_scores(model: Model, windows: Ids, reference: Floats) -> Scores:
    """onnxpipe: log probabilities of prompts as a request gets them, and its decoder beside torch's distributions."""
    writer = Writer(model)
    options = resolve({"max_new_tokens": 1, "do_sample": False})
    logprobs: list[list[float]] = []
    for start in range(0, len(windows), _TOGETHER):
        requests = [writer.compose(ids, options, prompt_logprobs=True) for ids in windows[start : start + _TOGETHER]]
        write_all(writer, requests)
        logprobs += [request.job.prompt_scores for request in requests]
    session = model.sessions["decoder"]
    assert isinstance(session, Session)  # noqa: S101 - the writer has seen to it
    decoder = Decoder(session, model.graph("decoder"))
    begin, positions = np.zeros(1, np.int64), np.arange(WINDOW)[None]
    likeliest, divergence = [], []
    for ids, expected in zip(windows, reference, strict=True):
        given = log_softmax(decoder.run(0, ids[None, :-1], begin, positions)[0])
        likeliest.append(given.argmax(-1))
        divergence.append((np.exp(expected) * (expected - given)).sum(axis=-1, dtype=np.float64))
    return Scores(np.array(logprobs), np.stack(likeliest), np.stack(divergence))


def compare(scores: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """A row per engine: its perplexity, the difference to the first engine's, and how often both expect the same token.

    `relative` is the difference as a part of the first engine's perplexity, `same_likeliest` a share in percent.
    """
    reference = next(iter(scores))
    losses = {engine: -found.logprobs.mean(axis=1) for engine, found in scores.items()}  # of each window
    count = len(losses[reference])
    samples = np.random.default_rng(0).integers(0, count, (_RESAMPLES, count))
    whole = {engine: float(np.exp(loss.mean())) for engine, loss in losses.items()}
    sampled = {engine: np.exp(loss[samples].mean(axis=1)) for engine, loss in losses.items()}
    return [
        {
            "engine": engine,
            "perplexity": round(whole[engine], 4),
            "interval": _interval(sampled[engine]),
            "difference": round(whole[engine] - whole[reference], 4),
            "difference_interval": _interval(sampled[engine] - sampled[reference]),
            "relative": float(f"{whole[engine] / whole[reference] - 1:.3g}"),
            "divergence": float(f"{found.divergence.mean():.3g}"),
            "same_likeliest": round(100 * float(np.mean(found.likeliest == scores[reference].likeliest)), 2),
        }
        for engine, found in scores.items()
    ]


def _interval(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 4) for value in np.percentile(values, [2.5, 97.5])]


def _megabytes(file: Path) -> float:
    return round(file.stat().st_size / 1e6, 2)


if __name__ == "__main__":
    main()
