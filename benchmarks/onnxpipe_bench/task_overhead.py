"""What each task costs over its bare tokenise + `session.run`, at batch 1, on models of MiniLM's size.

    python -m onnxpipe_bench.task_overhead --model MINILM_FOLDER [--cache .cache/task-overhead] [--repeats 200]

Heads are random: speed does not care. The bare side repeats what the call asked of the tokenizer and of onnxruntime,
recorded once: the same texts, the same batches.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
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
_TABLE = {"Player": ["Clara", "Bob", "Dana"] * 4, "Team": ["Reds", "Blues", "Reds"] * 4, "Goals": ["10", "7", "12"] * 4}


@dataclasses.dataclass(frozen=True)
class Case:
    """A task on an input; `head` is the transformers auto class without its prefix, `labels` its classes."""

    head: str
    inputs: Any  # of the task's own type
    parameters: Mapping[str, object] = dataclasses.field(default_factory=dict)
    labels: tuple[str, ...] = ()


CASES = {
    "feature-extraction": Case("", _TEXT),
    "sentence-similarity": Case("", {"source_sentence": _TEXT, "sentences": ["I live by the sea.", "It rains."]}),
    "text-classification": Case("ForSequenceClassification", _TEXT, labels=("negative", "positive")),
    "token-classification": Case("ForTokenClassification", _TEXT, labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC")),
    "question-answering": Case("ForQuestionAnswering", {"question": "Where does Clara live?", "context": _CONTEXT}),
    "fill-mask": Case("ForMaskedLM", f"{_TEXT} She is a [MASK]."),
    "zero-shot-classification": Case(
        "ForSequenceClassification",
        _TEXT,
        {"candidate_labels": ["sport", "politics", "cooking", "travel", "work"]},
        ("contradiction", "neutral", "entailment"),
    ),
    "table-question-answering": Case(
        "ForTableQuestionAnswering", {"query": "How many goals has Clara?", "table": _TABLE}
    ),
}


def main() -> None:
    """Export what is missing, measure every task in every precision and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the folder of MiniLM in hub layout")
    parser.add_argument("--cache", type=Path, default=Path(".cache/task-overhead"))
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--task", action="append", choices=list(CASES), help="repeatable; all when absent")
    args = parser.parse_args()
    rows = []
    print(f"{'task':<25} {'precision':<10} {'bare p50':>9} {'call p50':>9} {'overhead':>9}  (ms)")
    for task in args.task or CASES:
        case = CASES[task]
        bundle = make_bundle(task, case, args.model, args.cache)
        for precision in load_model(bundle).bundle.manifest.variants:
            pipeline = make_pipeline(load_model(bundle, precision=precision), task)
            bare = record(pipeline, case)
            figures = measure_overhead(bare, lambda: pipeline(case.inputs, **case.parameters), args.repeats)  # noqa: B023
            rows.append({"task": task, "precision": precision, **figures})
            print(f"{task:<25} {precision:<10} {line(figures)}", flush=True)
    result = {"model": "MiniLM-L6, random heads", "repeats": args.repeats, "rows": rows}
    print(f"-> {write_result('task_overhead', result)}")


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
    """The work of a call without the rest: the texts it tokenises and the batches it runs."""

    encode: Callable[..., Any]  # of the tokenizers library and of onnxruntime: neither has types
    run: Callable[..., Any]
    texts: Sequence[tuple[str, str | None]]
    batches: Sequence[Arrays]

    def __call__(self) -> None:
        """Tokenise into arrays, and run."""
        for text in self.texts:
            encoding = self.encode(*text)
            for values in (encoding.ids, encoding.attention_mask, encoding.type_ids):
                np.array([values], dtype=np.int64)
        for feeds in self.batches:
            self.run(None, feeds)


def record(pipeline: AnyPipeline, case: Case) -> BareCall:
    """The bare work of a case, taken from what one call of the pipeline asks of its tokenizer and its session."""
    tokenizer, session = pipeline.model.tokenizer, cast("Session", pipeline.model.sessions["model"])
    recorder = _Recorder(session)
    texts: list[tuple[str, str | None]] = []
    encode = tokenizer._encode

    def record_text(text: str, pair: str | None) -> Any:
        texts.append((text, pair))
        return encode(text, pair)

    model = dataclasses.replace(pipeline.model, sessions={"model": recorder})
    model.__dict__["tokenizer"] = tokenizer  # fills the cached property, so that both share one
    tokenizer._encode = record_text  # type: ignore[method-assign]  # on this instance, for one call
    try:
        type(pipeline)(model)(case.inputs, **case.parameters)
    finally:
        del tokenizer._encode
    return BareCall(tokenizer._tokenizer.encode, session._session.run, texts, recorder.batches)


class _Recorder(Engine):
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
