"""A model that writes without a graph: the real tasks, token loop and searches over logits that a rule makes.

Tokens are bytes. After a letter comes the next one of the alphabet and after "z" the end, so a model that is asked to
go on from "w" writes "xyz"; digits go round for ever, and other characters are followed by what ends JSON. A prompt
with "say <text>;" in it is answered with that text. An encoder's text is written back.
"""

import json
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from onnxpipe.bundle import Bundle, FileEntry, Graph, Manifest, Source, Tensor, Variant
from onnxpipe.generation import writer as writers
from onnxpipe.generation.batch import Batch
from onnxpipe.generation.loop import TokenLoop
from onnxpipe.generation.writer import Writer
from onnxpipe.load import make_pipeline
from onnxpipe.pipeline import Model
from onnxpipe.sections import Chat, Generation, Text
from onnxpipe_server.models import Served

BOS, EOS = 256, 257
SIZE = 258
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}assistant: {% endif %}"
)
# what a rule prefers where the token it would take may not come: characters that end JSON
_ENDINGS = {"}": 6.0, '"': 5.0, "{": 4.0, ":": 3.0, "]": 2.5, "1": 2.0}


def write_tokenizer(path: Path) -> None:
    """A tokenizer.json whose tokens are bytes, each with its own number, <s> and </s>."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    vocabulary = {letters[byte]: byte for byte in range(256)} | {"<s>": BOS, "</s>": EOS}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    tokenizer.save(str(path))


class FakeCache:
    bytes_per_position = 1

    def __init__(self, rows: dict[int, list[int]]) -> None:
        self._rows = rows

    def reserve(self, slots: int, length: int) -> None:
        pass

    def copy(self, origins: Sequence[int], targets: Sequence[int], length: int) -> None:
        copies = [list(self._rows.get(int(origin), [])[:length]) for origin in origins]
        self._rows.update(zip(map(int, targets), copies, strict=True))


class FakeDecoder:
    """Remembers each slot's tokens. `steps` counts runs; `gate` holds them back, `failure` makes them fail."""

    size_bytes = 0

    def __init__(self, rows_per_source: int) -> None:
        self.rows_per_source = rows_per_source
        self.rows: dict[int, list[int]] = {}
        self.cache = FakeCache(self.rows)
        self.sources = types.SimpleNamespace(slots=0, bytes_per_position=1)
        self.texts: dict[int, list[int]] = {}
        self.steps = 0
        self.gate: Callable[[int], None] = lambda steps: None

    def clear(self) -> None:
        self.rows.clear()

    def write_source(self, number: int, source: Mapping[str, np.ndarray]) -> None:
        self.texts[number] = source["ids"].tolist()

    def move_source(self, origin: int, target: int) -> None:
        self.texts[target] = self.texts[origin]

    def run(
        self, first: int, tokens: np.ndarray, lengths: np.ndarray, positions: np.ndarray, whole: int | None = None
    ) -> np.ndarray:
        self.steps += 1
        self.gate(self.steps)
        logits = []
        for number, (new, length, wanted) in enumerate(zip(tokens, lengths, positions, strict=True)):
            row = self.rows.setdefault(first + number, [])
            row[int(length) :] = new.tolist()
            source = self.texts.get((first + number) // self.rows_per_source)
            logits.append([scores(row[: int(length) + int(place) + 1], source) for place in wanted])
        return np.array(logits, np.float32)


def scores(row: Sequence[int], source: Sequence[int] | None) -> np.ndarray:
    """The logits (V,) behind some tokens."""
    result = np.linspace(0, -1, SIZE, dtype=np.float32)
    for character, score in _ENDINGS.items():
        result[ord(character)] = score
    result[following(row, source)] += 8
    return result


def following(row: Sequence[int], source: Sequence[int] | None) -> int:
    """The token that comes."""
    if source is not None:
        rest = [token for token in source if token < 256][len(row) - 1 :]
        return rest[0] if rest else EOS
    text = bytes(token for token in row if token < 256)
    if b"say " in text:
        rest = text.partition(b"say ")[2]
        said, _, after = rest.partition(b";")
        marker = after.rfind(b"assistant: ")
        begun = after[marker + len(b"assistant: ") :] if marker >= 0 else after
        return said[len(begun)] if len(begun) < len(said) and said.startswith(begun) else EOS
    last = row[-1] if row else BOS
    if ord("a") <= last < ord("z"):
        return last + 1
    if last == ord("z"):
        return EOS
    if ord("0") <= last <= ord("9"):
        return ord("0") + (last - ord("0") + 1) % 10
    # so that JSON comes to an end soon: close the string that is open, else the object
    return ord('"') if text.count(b'"') % 2 else ord("}")


class FakeWriter(Writer):
    """A writer over fake decoders, which `decoders` lists."""

    def __init__(self, model: Model, *, encoder: bool) -> None:
        self.section = model.bundle.manifest.generation
        self.tokenizer = model.tokenizer
        self._graph = model.graph("decoder")
        self._encoder = "an encoder" if encoder else None
        self.decoders: list[FakeDecoder] = []
        self.gate: Callable[[int], None] = lambda steps: None
        self.loop = TokenLoop(self._make_batch, budget_bytes=2**20)

    def _make_batch(self, rows_per_source: int) -> Batch:
        decoder = FakeDecoder(rows_per_source)
        decoder.gate = lambda steps: self.gate(steps)
        self.decoders.append(decoder)
        return Batch(decoder)

    def _encode(self, source: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"ids": source}

    @property
    def steps(self) -> int:
        return sum(decoder.steps for decoder in self.decoders)

    @property
    def idle(self) -> bool:
        """Whether nothing is being written, and nothing waits."""
        loop = self.loop
        with loop._changed:
            loop._clear_leaving()
            return not loop._running and not loop._waiting and not any(b._owners for b in loop._batches.values())


def make_writing(
    folder: Path,
    model_id: str,
    *tasks: str,
    encoder: bool = False,
    chat: bool | str = False,
    max_length: int | None = 512,
    **defaults: object,
) -> Served:
    """A served model of the real tasks over a `FakeWriter`, which `writer_of` gives."""
    path = folder / model_id.replace("/", "-")
    path.mkdir(parents=True, exist_ok=True)
    write_tokenizer(path / "tokenizer.json")
    ids = Tensor(name="input_ids", dtype="int64", shape=("batch", "tokens"))
    logits = Tensor(name="logits", dtype="float32", shape=("batch", "positions", SIZE))
    graphs = dict.fromkeys(["decoder", *(["encoder"] if encoder else [])], Graph(inputs=(ids,), outputs=(logits,)))
    variant = Variant(files=dict.fromkeys(graphs, "decoder.onnx"), batch_invariant=True, measured={}, tolerance={})
    manifest = Manifest(
        format_version=1,
        id=model_id,
        task=tasks[0],
        other_tasks=tasks[1:],
        source=Source(model=model_id, revision="abc123"),
        graphs=graphs,
        variants={"fp32": variant},
        text=Text(tokenizer="tokenizer.json", special_tokens={"eos_token": "</s>", "bos_token": "<s>"}),
        generation=Generation(
            defaults={"eos_token_id": EOS, **defaults},
            decoder_prompt=(BOS,) if encoder else (),
            max_length=max_length,
        ),
        chat=Chat(templates={"default": chat if isinstance(chat, str) else TEMPLATE}) if chat else None,
        tools={},
        files={name: FileEntry(size_bytes=1, sha256="0" * 64) for name in ("tokenizer.json", "decoder.onnx")},
    )
    engine = types.SimpleNamespace(device="cpu", threads=1)
    model = Model(Bundle(path, manifest, "d" * 64), "fp32", variant, dict.fromkeys(graphs, engine))
    writers._writers[model] = FakeWriter(model, encoder=encoder)
    return Served(model, {task: make_pipeline(model, task) for task in tasks})


def writer_of(served: Served) -> FakeWriter:
    writer = writers.writer_of(served.model)
    assert isinstance(writer, FakeWriter)
    return writer


class Gate:
    """Lets a writer make so many steps; `waiting` tells that it wants another."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self.waiting = threading.Event()
        self._open = threading.Event()

    def __call__(self, step: int) -> None:
        if step > self._steps and not self._open.is_set():
            self.waiting.set()
            self._open.wait(10)

    def open(self) -> None:
        self._open.set()


def events_of(content: str) -> list[object]:
    """The JSON of server-sent events; "[DONE]" as it is."""
    lines = [line for line in content.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    bodies = [line.removeprefix("data: ") for line in lines]
    return [body if body == "[DONE]" else json.loads(body) for body in bodies]


def chunks_of(content: str) -> list[dict[str, object]]:
    """The chunks of one of OpenAI's streams, which ends as it should."""
    *chunks, done = events_of(content)
    assert done == "[DONE]"
    return chunks


def choice_of(response: httpx.Response) -> dict[str, object]:
    """The only choice of one of OpenAI's responses."""
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    return choice
