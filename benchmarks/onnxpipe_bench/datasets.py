"""The labelled texts of the test data, split for training and testing, always in the same way."""

import csv
import dataclasses
import itertools
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path

from onnxpipe_bench.measure import TEST_DATA


@dataclasses.dataclass(frozen=True)
class Example:
    """A text, or a pair of texts, with its label; or its words with a label for each."""

    text: str
    pair: str | None = None
    label: str = ""
    words: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Examples to train on and others to test on; `labels` in a fixed order."""

    train: Sequence[Example]
    test: Sequence[Example]

    @property
    def labels(self) -> list[str]:
        """Every label or tag of the training examples; "O" first, so that it is what an untrained model says."""
        found = {example.label for example in self.train} | {tag for example in self.train for tag in example.tags}
        return sorted(found - {""}, key=lambda label: (label != "O", label))


def topics() -> Dataset:
    """AG news: a headline and its first sentences, one of four topics."""
    with (TEST_DATA / "text/ag_news/test.tsv").open(encoding="utf-8", newline="") as file:
        examples = [
            Example(text, label=label) for text, label in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]
    return _split(examples, test=2000)


def sentiment() -> Dataset:
    """Sentence polarity: a sentence of a film review, praise or blame."""
    folder = TEST_DATA / "text/sentence_polarity"
    examples = [
        Example(line.strip(), label=label)
        for label, name in (("negative", "rt-polarity.neg"), ("positive", "rt-polarity.pos"))
        for line in (folder / name).read_text(encoding="latin-1").splitlines()
    ]
    return _split(examples, test=2000)


def entailment() -> Dataset:
    """RTE-3: a text and a statement, which follows from it or not; the official development and test sets."""
    return Dataset(*(_rte(TEST_DATA / f"text/nli_rte/rte3_{part}.xml") for part in ("dev", "test")))


def entities() -> Dataset:
    """WNUT-17 development set: words of posts tagged with emerging entities."""
    examples = []
    lines = (TEST_DATA / "text/ner_wnut17/emerging.dev.conll").read_text(encoding="utf-8").splitlines()
    for empty, group in itertools.groupby(lines, key=lambda line: not line.strip()):
        if not empty:
            words, tags = zip(*(line.split("\t")[:2] for line in group), strict=True)
            examples.append(Example(" ".join(words), words=words, tags=tags))
    return _split(examples, test=300)


DATASETS: dict[str, Callable[[], Dataset]] = {
    "topics": topics,
    "sentiment": sentiment,
    "entailment": entailment,
    "entities": entities,
}


def _rte(file: Path) -> list[Example]:
    # our own test data, not a stranger's XML
    pairs = ElementTree.parse(file).getroot().iter("pair")  # noqa: S314
    names = {"YES": "entailment", "NO": "not_entailment"}
    return [
        Example(pair.findtext("t", "").strip(), pair.findtext("h", "").strip(), names[pair.attrib["entailment"]])
        for pair in pairs
    ]


def _split(examples: list[Example], *, test: int) -> Dataset:
    random.Random(0).shuffle(examples)  # noqa: S311 - a split, not a secret
    return Dataset(examples[test:], examples[:test])
