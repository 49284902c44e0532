"""What each task costs over its bare tokenise + `session.run`, at batch 1, on models of MiniLM's size.

    python -m onnxpipe_bench.task_overhead --model MINILM_FOLDER [--cache .cache/task-overhead] [--repeats 200]

Heads are random: speed does not care. The bare side repeats what the call asked of the tokenizers library and of
onnxruntime, as it was recorded: the same texts, the same batches. Tables are measured twice: a new one in each call,
whose cells both sides tokenise; and several questions to one, which the pipeline remembers, so that both sides tokenise
the question alone.
"""

import argparse
import copy
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from onnxpipe.load import load_model, make_pipeline
from onnxpipe.pipeline import AnyPipeline
from onnxpipe.session import Array, Arrays, Engine, Session
from onnxpipe_bench.measure import write_result
from onnxpipe_bench.overhead import line, measure_overhead
from onnxpipe_export.export import export

_TEXT = "My name is Clara and I live in Berkeley, where I work for the city and swim in the bay on Sundays."
_CONTEXT = f"{_TEXT} " * 24  # two windows of 384 tokens

_PLAYERS = ["Clara", "Bob", "Dana", "Emil", "Frida", "Hanna", "Ivan", "Julia", "Karl", "Laura", "Max", "Nora", "Otto"]
_CITIES = ["Berlin", "Paris", "London", "Rome", "Madrid", "Vienna", "Oslo", "Dublin", "Athens", "Prague", "Warsaw"]
# more than a pipeline remembers
_TABLES = [
    {
        "Player": [_PLAYERS[(row + number) % len(_PLAYERS)] for row in range(12)],
        "Team": [_CITIES[(row + number) % len(_CITIES)] for row in range(12)],
        "Goals": [str((7 * row + number) % 97) for row in range(12)],
    }
    for number in range(16)
]


@dataclasses.dataclass(frozen=True)
class Case:
    """A task on inputs in turn; `head` is the transformers auto class without its prefix, `labels` its classes.

    `note` tells the cases of one task apart.
    """

    head: str
    inputs: Sequence[Any]  # of the task's own type
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    labels: tuple[str, ...] = ()
    note: str = ""


CASES = {
    "feature-extraction": [Case("", [_TEXT])],
    "sentence-similarity": [
        Case("", [{"source_sentence": _TEXT, "sentences": ["I live by the sea.", "It rains."]}]),
    ],
    "text-classification": [Case("ForSequenceClassification", [_TEXT], labels=("negative", "positive"))],
    "token-classification": [Case("ForTokenClassification", [_TEXT], labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"))],
    "question-answering": [
        Case("ForQuestionAnswering", [{"question": "Where does Clara live?", "context": _CONTEXT}]),
    ],
    "fill-mask": [Case("ForMaskedLM", [f"{_TEXT} She is a [MASK]."])],
    "zero-shot-classification": [
        Case(
            "ForSequenceClassification",
            [_TEXT],
            {"candidate_labels": ["sport", "politics", "cooking", "travel", "work"]},
            ("contradiction", "neutral", "entailment"),
        ),
    ],
    "table-question-answering": [
        Case(
            "ForTableQuestionAnswering",
            [{"query": "How many goals has Clara?", "table": table} for table in _TABLES],
            note="new table",
        ),
        Case(
            "ForTableQuestionAnswering",
            [{"query": f"How many goals has {player}?", "table": _TABLES[0]} for player in _PLAYERS],
            note="same table",
        ),
    ],
}


def main() -> None:
    """Export what is missing, measure every task in every precision and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the folder of MiniLM in hub layout")
    parser.add_argument("--cache", type=Path, default=Path(".cache/task-overhead"))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--task", action="append", choices=list(CASES), help="repeatable; all when absent")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'task':<36} {'precision':<10} {'bare p50':>9} {'call p50':>9} {'overhead':>9}  (ms)")
    for task in args.task or CASES:
        for case in CASES[task]:
            rows += measure(task, case, make_bundle(task, case, args.model, args.cache), args.repeats)
    result = {"model": "MiniLM-L6, random heads", "repeats": args.repeats, "rows": rows}
    print(f"-> {write_result('task_overhead', result)}")


def measure(task: str, case: Case, bundle: Path, repeats: int) -> Iterator[dict[str, Any]]:
    """What a case costs in each precision of the bundle."""
    name = f"{task}, {case.note}" if case.note else task
    for precision in load_model(bundle).bundle.manifest.variants:
        pipeline = make_pipeline(load_model(bundle, precision=precision), task)
        bare, call = itertools.cycle(record(pipeline, case)), itertools.cycle(call_each(pipeline, case))
        figures = measure_overhead(lambda: next(bare)(), lambda: next(call)(), repeats)  # noqa: B023
        print(f"{name:<36} {precision:<10} {line(figures)}", flush=True)
        yield {"task": name, "precision": precision, **figures}


def call_each(pipeline: AnyPipeline, case: Case) -> list[Callable[[], object]]:
    """A call of the pipeline for each of the inputs."""
    return [functools.partial(pipeline, inputs, **case.parameters) for inputs in case.inputs]


def make_bundle(task: str, case: Case, base: Path, cache: Path) -> Path:
    """A bundle for the task, made once: MiniLM's body under a random head, or a random TAPAS of its size."""
    import torch
    import transformers

    model, bundle = cache / task / "model", cache / task / "bundle"
    if bundle.exists():
        return bundle
    torch.manual_seed(0)
    if case.head == "ForTableQuestionAnswering":
        sizes = transformers.AutoConfig.from_pretrained(base).to_dict()
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        tokenizer = transformers.TapasTokenizer(str(base / "vocab.txt"))
        config = transformers.TapasConfig(
            **{name: sizes[name] for name in names}, vocab_size=len(tokenizer), num_aggregation_labels=4
        )
        transformers.TapasForQuestionAnswering(config).save_pretrained(model)
        tokenizer.save_pretrained(model)
    else:
        settings = {"id2label": dict(enumerate(case.labels)), "num_labels": len(case.labels)} if case.labels else {}
        auto_class = getattr(transformers, f"AutoModel{case.head}")
        network = auto_class.from_pretrained(base, **settings)
        if "O" in case.labels:  # as in real text, most tokens are no entity
            network.classifier.bias.data[case.labels.index("O")] = 1.0
        network.save_pretrained(model)
        transformers.AutoTokenizer.from_pretrained(base).save_pretrained(model)
    export(model, bundle, task=task, bundle_id=f"overhead/{task}")
    return bundle


@dataclasses.dataclass(frozen=True)
class BareCall:
    """The work of a call without the rest: what it asks the tokenizers library for, and the batches it runs."""

    run: Callable[..., Any]  # of onnxruntime, which has no types
    texts: Sequence[functools.partial[Any]]
    batches: Sequence[Arrays]

    def __call__(self) -> None:
        """Tokenise into arrays, and run."""
        for encode in self.texts:
            encoding = encode()
            for values in (encoding.ids, encoding.attention_mask, encoding.type_ids):
                np.array([values], dtype=np.int64)
        for feeds in self.batches:
            self.run(None, feeds)


def record(pipeline: AnyPipeline, case: Case) -> list[BareCall]:
    """The bare work of a case's inputs, taken from what calls of the pipeline ask of its tokenizer and its session.

    Every input has been seen once when it is recorded: what the pipeline remembers is not tokenised here either.
    """
    session = cast("Session", pipeline.model.sessions["model"])
    recorder = _SessionRecorder(session)
    tokenizer = copy.copy(pipeline.model.tokenizer)
    backend = _TokenizerRecorder(tokenizer._tokenizer)
    tokenizer._tokenizer = backend
    model = dataclasses.replace(pipeline.model, sessions={"model": recorder})
    model.__dict__["tokenizer"] = tokenizer  # fills the cached property
    bare = []
    calls = call_each(type(pipeline)(model), case)
    for call in (*calls, *calls):
        backend.texts, recorder.batches = [], []
        call()
        bare.append(BareCall(session._session.run, backend.texts, recorder.batches))
    return bare[len(calls) :]


class _TokenizerRecorder:
    """A tokenizer of the library that keeps what it encodes."""

    def __init__(self, tokenizer: Any) -> None:  # its stubs lack most members
        self._tokenizer = tokenizer
        self.texts: list[functools.partial[Any]] = []

    def encode(self, *arguments: Any, **options: Any) -> Any:
        self.texts.append(functools.partial(self._tokenizer.encode, *arguments, **options))
        return self.texts[-1]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


class _SessionRecorder(Engine):
    """A session that keeps the inputs of its runs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.batches: list[Arrays] = []

    @property
    def device(self) -> str:
        return self._session.device

    @property
    def threads(self) -> int:
        return self._session.threads

    def run(self, feeds: Mapping[str, Array]) -> Arrays:
        self.batches.append(dict(feeds))
        return self._session.run(feeds)


if __name__ == "__main__":
    main()
