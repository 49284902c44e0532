"""A server over fake models: real types, contract and routes, but no graphs."""

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from starlette.types import ASGIApp

from fake_writer import make_writing, writer_of
from onnxpipe.audio.waveform import Audio
from onnxpipe.batching import Row
from onnxpipe.bundle import Bundle, FileEntry, Golden, Graph, Manifest, Source, Tensor, Variant
from onnxpipe.errors import (
    BundleError,
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    MalformedImage,
    Overloaded,
    UnprocessableInput,
)
from onnxpipe.pipeline import Model, Pipeline, WireForm, Work
from onnxpipe.records import FieldError, Record, parameter
from onnxpipe.session import Arrays
from onnxpipe.tasks.zero_shot_classification import Parameters as ZeroShotParameters
from onnxpipe_server.app import create_app
from onnxpipe_server.models import Models, Served
from onnxpipe_server.settings import Settings

ERRORS = {
    "invalid": InvalidInput("bad text"),
    "unprocessable": UnprocessableInput("no such prompt"),
    "picture": MalformedImage("not an image"),
    "overloaded": Overloaded("too much"),
    "cancelled": Cancelled("gone"),
    "bundle": BundleError("damaged"),
    "late": DeadlineExceeded("too slow"),
    "crash": KeyError("the secret of line 7"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelParameters(Record):
    """How many labels."""

    top_k: int | None = parameter(None, ge=1, description="How many labels come back.")
    mode: Literal["plain", "loud"] = parameter("plain", description="How they are written.")


@dataclasses.dataclass(frozen=True)
class Label:
    label: str
    score: float
    note: str | None = None


class Labels(Pipeline[str, LabelParameters, list[Label]]):
    """The text's words as labels."""

    nested = True

    def preprocess(self, inputs: str, parameters: LabelParameters) -> Work[list[Label]]:
        words = (inputs.upper() if parameters.mode == "loud" else inputs).split()[: parameters.top_k]
        return Work([_row(inputs)], lambda _: [Label(word, 0.5) for word in words])

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        return enumerate({} for _ in rows)


@dataclasses.dataclass(frozen=True)
class Ranked:
    """Labels, the classic way."""

    labels: list[str]


def list_labels(ranked: Ranked) -> list[Label]:
    return [Label(label, 0.5) for label in ranked.labels]


class Rankings(Pipeline[str, LabelParameters, Ranked]):
    """The text's words in one of two forms."""

    tasks_form = WireForm(list_labels, {"hf_hub": (1, 1, 5), "acme/client": (2,)})

    def preprocess(self, inputs: str, parameters: LabelParameters) -> Work[Ranked]:
        return Work([_row(inputs)], lambda _: Ranked(inputs.split()))

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        return enumerate({} for _ in rows)


class Choosers(Pipeline[str, ZeroShotParameters, Ranked]):
    """The labels that it was given."""

    def preprocess(self, inputs: str, parameters: ZeroShotParameters) -> Work[Ranked]:
        return Work([_row(inputs)], lambda _: Ranked(list(parameters.labels)))

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        return enumerate({} for _ in rows)


class MoodyLabels(Labels):
    """Labels that some texts make fail, complain, or wait for the `gate`."""

    gate: threading.Event | None = None
    started = threading.Semaphore(0)

    def preprocess(self, inputs: str, parameters: LabelParameters) -> Work[list[Label]]:
        if inputs in ERRORS:
            raise ERRORS[inputs]
        if inputs == "wait" and self.gate:
            self.started.release()
            self.gate.wait(10)
        work = super().preprocess(inputs, parameters)
        if inputs == "long":
            return dataclasses.replace(work, truncated_tokens=3, warnings=("größer\nthan expected",))
        if inputs == "nan":
            return dataclasses.replace(work, finish=lambda _: [Label("nan", float("nan"))])
        return work


@dataclasses.dataclass(frozen=True, kw_only=True)
class VectorParameters(Record):
    normalize: bool | None = parameter(None, description="To length 1.")
    dimensions: int | None = parameter(None, ge=1, le=8, description="Keep only the first.")
    temperature: float | None = parameter(None, gt=0, description="Not used.")


class Vectors(Pipeline[str, VectorParameters, NDArray[np.float32]]):
    """As many numbers as the text has characters."""

    def preprocess(self, inputs: str, parameters: VectorParameters) -> Work[NDArray[np.float32]]:
        vector = np.linspace(0, 1, len(inputs), dtype=np.float32)[: parameters.dimensions]
        return Work([_row(inputs)], lambda _: vector)

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        return enumerate({} for _ in rows)


class MoodyVectors(Vectors):
    """Vectors of which one is not finite."""

    def preprocess(self, inputs: str, parameters: VectorParameters) -> Work[NDArray[np.float32]]:
        work = super().preprocess(inputs, parameters)
        return dataclasses.replace(work, finish=lambda _: np.full(2, np.nan, np.float32)) if inputs == "nan" else work


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairInputs(Record):
    """A text and others."""

    source_sentence: str = parameter(description="The text.")
    sentences: tuple[str, ...] = parameter(description="The others.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sentences:
            raise FieldError("sentences", "expected at least one sentence, given an empty list")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairParameters(Record):
    truncate: bool | None = parameter(None, description="Cut.")


class Pairs(Pipeline[PairInputs, PairParameters, list[float]]):
    """Equal or not."""

    def preprocess(self, inputs: PairInputs, parameters: PairParameters) -> Work[list[float]]:
        if parameters.truncate is False:
            raise InvalidInput("too long")
        scores = [float(inputs.source_sentence == sentence) for sentence in inputs.sentences]
        return Work([_row(text) for text in (inputs.source_sentence, *inputs.sentences)], lambda _: scores)

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        return enumerate({} for _ in rows)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListenerParameters(Record):
    """The rate."""

    rate: int = parameter(16_000, ge=1, description="Samples a second.")


class Listeners(Pipeline[Audio, ListenerParameters, list[int]]):
    """How many samples it heard."""

    def preprocess(self, inputs: Audio, parameters: ListenerParameters) -> Work[list[int]]:
        samples = inputs.samples(parameters.rate)
        return Work([{"input_values": samples}], lambda _: [len(samples)])

    def infer(self, rows: Sequence[Row]) -> Iterator[tuple[int, Arrays]]:
        return enumerate({} for _ in rows)


@dataclasses.dataclass(frozen=True)
class FakeEngine:
    device: str = "cpu"
    threads: int = 2

    def run(self, feeds: Mapping[str, NDArray[np.float32]]) -> Arrays:
        raise NotImplementedError


def _row(text: str) -> Row:
    return {"input_ids": np.zeros(len(text), dtype=np.int64)}


TENSOR = Tensor(name="input_ids", dtype="int64", shape=("batch", "tokens"))


def make_served(
    model_id: str,
    pipelines: Mapping[str, type[Pipeline]],
    *,
    revision: str | None = None,
    device: str = "cpu",
    golden: Sequence[Golden] = (),
) -> Served:
    task, *others = pipelines
    variant = Variant(files={"model": "onnx/model.onnx"}, batch_invariant=True, measured={}, tolerance={})
    manifest = Manifest(
        format_version=1,
        id=model_id,
        task=task,
        other_tasks=tuple(others),
        source=Source(model=model_id, revision=revision),
        graphs={"model": Graph(inputs=(TENSOR,), outputs=(TENSOR,))},
        variants={"fp32": variant},
        golden=tuple(golden),
        tools={},
        files={"onnx/model.onnx": FileEntry(size_bytes=1_500_000, sha256="0" * 64)},
    )
    model = Model(Bundle(Path("bundle"), manifest, "d" * 64), "fp32", variant, {"model": FakeEngine(device)})
    return Served(model, {name: cls(model) for name, cls in pipelines.items()})


LABELS = {"text-classification": MoodyLabels}
EMBEDDER = {"sentence-similarity": Pairs, "feature-extraction": MoodyVectors}
EARS = {"audio-classification": Listeners}
CHOOSER = {"zero-shot-classification": Choosers}
RANKER = {"zero-shot-classification": Rankings}
STEADY = {"text-classification": Labels, "sentence-similarity": Pairs, "feature-extraction": Vectors}


@pytest.fixture(scope="session")
def served() -> Callable[..., Served]:
    """Builds a model of a fake kind: "labels", "chooser", "ranker" (results in two forms), "embedder", "ears" (which
    counts samples), or "steady", which does all but rank and listen and never fails on its own.
    """
    kinds = {
        "chooser": CHOOSER,
        "ears": EARS,
        "labels": LABELS,
        "ranker": RANKER,
        "embedder": EMBEDDER,
        "steady": STEADY,
    }
    return lambda model_id, kind, **options: make_served(model_id, kinds[kind], **options)


class Client:
    """A client of an application in this process; not starlette's, which wants a library of its own."""

    def __init__(self, app: ASGIApp, runner: asyncio.Runner) -> None:
        self.app = app
        self._runner = runner

    def request(self, method: str, path: str, **options) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://server") as client:
                return await client.request(method, path, **options)

        return self._runner.run(send())

    def get(self, path: str, **options) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options) -> httpx.Response:
        return self.request("POST", path, **options)


@pytest.fixture(scope="session")
def runner():
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def make_client(runner) -> Callable[..., Client]:
    """A client of a server with these models; keywords are its settings."""
    return lambda *served, **settings: Client(create_app(Models(served), Settings(**settings)), runner)


@pytest.fixture(scope="session")
def client(served, make_client) -> Client:
    """Two models; the first knows its hub commit and has a golden request, the second runs on a GPU."""
    golden = Golden(
        task="text-classification",
        inputs="so it is",
        parameters={"top_k": 1},
        expected=[{"label": "so", "score": 0.5}],
        tolerance={"fp32": 1e-4},
    )
    labels = served("acme/labels", "labels", revision="abc123", golden=[golden])
    return make_client(labels, served("acme/embedder", "embedder", device="gpu"))


@pytest.fixture(scope="session")
def labels(served, make_client) -> Client:
    """A server of one model, which classifies."""
    return make_client(served("acme/labels", "labels"), max_body_bytes=1000)


@pytest.fixture(scope="session")
def ranker(served, make_client) -> Client:
    """A server of one model, whose results have two forms."""
    return make_client(served("acme/ranker", "ranker"))


@pytest.fixture(scope="session")
def embedder(served, make_client) -> Client:
    """A server of one model, which embeds."""
    return make_client(served("acme/embedder", "embedder"))


@pytest.fixture
def gate():
    """Holds the text "wait" back until it is set; `started` counts those that wait."""
    MoodyLabels.gate, MoodyLabels.started = threading.Event(), threading.Semaphore(0)
    yield MoodyLabels
    MoodyLabels.gate.set()
    MoodyLabels.gate = None


@pytest.fixture(scope="session")
def writing(tmp_path_factory) -> Callable[..., Served]:
    """Builds a model that writes: see `fake_writer`."""
    folder = tmp_path_factory.mktemp("writing")
    return lambda model_id, *tasks, **options: make_writing(folder, model_id, *tasks, **options)


@pytest.fixture(scope="session")
def letters_model(writing) -> Served:
    """A model that continues texts and answers messages."""
    return writing("acme/letters", "text-generation", chat=True)


@pytest.fixture(scope="session")
def letters(letters_model, make_client) -> Iterator[Client]:
    """A server of that model alone; at the end nothing of what was asked of it may be left."""
    yield make_client(letters_model)
    assert writer_of(letters_model).idle


@pytest.fixture(scope="session")
def echo(writing, make_client) -> Client:
    """A server of one model with an encoder, which repeats what it reads."""
    tasks = ("summarization", "translation", "text2text-generation")
    return make_client(writing("acme/echo", *tasks, encoder=True))


@pytest.fixture
def chat(letters):
    """Posts a user's message to chat completions, with other fields beside it."""
    pytest.importorskip("jinja2", reason="chat templates need the chat extra")

    def ask(content, *, path="/v1/chat/completions", **options) -> httpx.Response:
        return letters.post(path, json={"messages": [{"role": "user", "content": content}], **options})

    return ask


@pytest.fixture
def grammars() -> None:
    pytest.importorskip("llguidance", reason="grammars need the chat extra")
