"""Small real models: MiniLM fine-tuned in minutes on a CPU, so that quality is measured on trained weights."""

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from onnxpipe_bench.datasets import Dataset, Example

_BATCH = 32
_MAX_TOKENS = 128
_WARM_UP = 0.1
_IGNORED = -100  # torch's cross entropy skips it


def finetune(base: Path, dataset: Dataset, out: Path, *, epochs: int, learning_rate: float) -> None:
    """Train a classifier of texts, pairs or words from the weights in `base`, and write it to `out` in hub layout.

    The embeddings and the lower half of the layers stay as they are: that is most of the time, and little of the gain.
    AdamW with a linear schedule, seeded; the same machine gives the same weights.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    labels = dataset.labels
    kind = "TokenClassification" if dataset.train[0].tags else "SequenceClassification"
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(
        base,
        num_labels=len(labels),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    body = model.base_model
    frozen = [body.embeddings, *body.encoder.layer[: len(body.encoder.layer) // 2]]
    for module in frozen:
        module.requires_grad_(requires_grad=False)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    batches = [batch for epoch in range(epochs) for batch in _shuffled(dataset.train, epoch)]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.01)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, math.ceil(_WARM_UP * len(batches)), len(batches))
    model.train()
    for batch in tqdm(batches, desc=f"train {out.name}", disable=None):
        loss = model(**_encode(tokenizer, batch, labels)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(out, safe_serialization=True)
    tokenizer.save_pretrained(out)


def _shuffled(examples: Sequence[Example], epoch: int) -> list[list[Example]]:
    """Batches of similar length in random order: little padding, and no two epochs alike."""
    generator = random.Random(epoch)  # noqa: S311 - an order, not a secret
    order = sorted(examples, key=lambda example: (len(example.text) // 32, generator.random()))
    batches = [order[start : start + _BATCH] for start in range(0, len(order), _BATCH)]
    generator.shuffle(batches)
    return batches


def _encode(tokenizer: Any, batch: list[Example], labels: list[str]) -> Any:  # transformers has no types here
    import torch

    settings = {"padding": True, "truncation": True, "max_length": _MAX_TOKENS, "return_tensors": "pt"}
    if not batch[0].tags:
        pairs = [example.pair for example in batch] if batch[0].pair is not None else None
        encoded = tokenizer([example.text for example in batch], pairs, **settings)
        encoded["labels"] = torch.tensor([labels.index(example.label) for example in batch])
        return encoded
    encoded = tokenizer([list(example.words) for example in batch], is_split_into_words=True, **settings)
    rows = []
    for index, example in enumerate(batch):
        words = encoded.word_ids(index)
        # a word's tag is that of its first token
        firsts = [word is not None and word != words[place - 1] for place, word in enumerate(words)]
        rows.append(
            [labels.index(example.tags[word]) if first else _IGNORED for word, first in zip(words, firsts, strict=True)]
        )
    encoded["labels"] = torch.tensor(rows)
    return encoded
