"""Text through the token loop, beside transformers' `generate`, a loop on optimum's graph, and other engines.

    python -m onnxpipe_bench.generation_speed [--genai PYTHON] [--llama-cpp PYTHON] [--openvino PYTHON] [--repeats 5]

The model has SmolLM-135M's shape and random weights: speed does not care. Each request is a prompt of 32 tokens and
writes 64, greedily, on two threads; "x 8" is eight requests together, per step. Candidates take turns. Each PYTHON is
an interpreter of its own with what its engine needs; the README of the benchmarks says how to make it. Other engines'
integers of 4 bits are blocks of 32 with a scale, the head and the embedding as well; so are those of "onnxpipe int4 in
blocks of 32", beside what export makes.
"""

import argparse
import itertools
import time
import unittest.mock
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from onnxpipe.arrays import Floats
from onnxpipe.bundle import Graph, Tensor
from onnxpipe.generation.batch import Batch
from onnxpipe.generation.decoder import Decoder
from onnxpipe.generation.loop import Job, TokenLoop
from onnxpipe.generation.options import resolve
from onnxpipe.generation.results import Generated, Search, Step
from onnxpipe.generation.scores import Tokens
from onnxpipe.generation.search import make_search
from onnxpipe.session import Array, Binding, Port, Session
from onnxpipe_bench import decoder_speed as decoder
from onnxpipe_bench.measure import write_result
from onnxpipe_export.generation.precisions import BITS, quantize_graph

_PEERS_BLOCKS = 32


def main() -> None:
    """Make what is missing, measure every candidate and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genai", type=Path, help="an interpreter with onnxruntime-genai and what its builder needs")
    parser.add_argument("--llama-cpp", type=Path, help="an interpreter with llama-cpp-python, gguf and safetensors")
    parser.add_argument("--openvino", type=Path, help="an interpreter with openvino-genai, gguf and safetensors")
    parser.add_argument("--cache", type=Path, default=Path(".cache/decoder-speed"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = decoder.make_model(args.cache / "model", decoder.SIZES)
    base = decoder.make_base(model, args.cache)
    files = {**precisions(base), f"int4 in blocks of {_PEERS_BLOCKS}": peers_blocks(base)}
    with clocked() as clock:
        loops = {f"onnxpipe {name}": Loop(file, clock) for name, file in files.items()}
        loops |= {
            f"onnxpipe {name} x {decoder.ROWS}": Loop(file, clock, count=decoder.ROWS) for name, file in files.items()
        }
        candidates: dict[str, decoder.Run] = {name: loop.run for name, loop in loops.items()}
        candidates["transformers fp32"] = torch_generate(model, "AutoModelForCausalLM")
        candidates["optimum's graph fp32"] = decoder.PlainLoop(decoder.make_optimum(model, args.cache)).run
        candidates |= peers(args, model)
        rows = with_python(decoder.measure(candidates, args.repeats), loops)
    alone = {row["candidate"]: row["next_ms"] for row in rows}
    for row in rows:
        name, _, count = row["candidate"].partition(" x ")
        if count:
            row["times_one"] = round(int(count) * alone[name] / row["next_ms"], 2)
    result = {"model": "SmolLM-135M's shape, random weights", **setting(), "rows": rows}
    print(f"-> {write_result('generation_speed', result)}")


def peers(args: argparse.Namespace, model: Path) -> dict[str, decoder.Run]:
    """The engines that the command line has an interpreter for."""
    found: dict[str, decoder.Run] = {}
    if args.genai:
        for precision in ("fp32", "int4"):
            folder = decoder.make_genai(args.genai, model, args.cache, precision)
            found[f"onnxruntime-genai {precision}"] = decoder.peer_loop(args.genai, "genai", folder)
    readers = [
        ("llama.cpp", "llama_cpp", args.llama_cpp, ("F32", "Q4_0")),
        # it reads no F32 from such files
        ("OpenVINO GenAI", "openvino", args.openvino, ("F16", "Q4_0")),
    ]
    for name, script, python, kinds in readers:
        for kind in kinds if python else ():
            file = decoder.make_gguf(python, model, args.cache, kind)
            found[f"{name} {kind.lower()}"] = decoder.peer_loop(python, script, file)
    return found


def setting() -> dict[str, int]:
    """What all candidates have in common."""
    return {"prompt": decoder.PROMPT, "new_tokens": decoder.NEW, "threads": decoder.THREADS}


def precisions(base: Path) -> dict[str, Path]:
    """A graph, named for what it is, in all precisions: name -> file."""
    files = {"fp32": base}
    for precision in BITS:
        files[precision] = base.with_name(f"{base.stem}_{precision}.onnx")
        if not files[precision].exists():
            quantize_graph(base.stem, base, files[precision], precision)
    return files


def peers_blocks(base: Path) -> Path:
    """A graph in int4 with the blocks of other engines."""
    file = base.with_name(f"{base.stem}_int4_{_PEERS_BLOCKS}.onnx")
    if not file.exists():
        quantize_graph(base.stem, base, file, "int4", _PEERS_BLOCKS)
    return file


def with_python(rows: Sequence[Mapping[str, Any]], loops: "Mapping[str, Loop]") -> list[dict[str, Any]]:
    """Rows with the median of what Python took of each step."""
    return [
        {**row, "python_ms": round(float(np.median(loops[row["candidate"]].python_ms)), 3)}
        if row["candidate"] in loops
        else dict(row)
        for row in rows
    ]


class Clock:
    """Milliseconds that the model's own runs took so far."""

    def __init__(self) -> None:
        self.model_ms = 0.0


@contextmanager
def clocked() -> Iterator[Clock]:
    """A clock of all runs of decoders."""
    clock, run = Clock(), Binding.run

    def timed(binding: Binding) -> None:
        begin = time.perf_counter()
        run(binding)
        clock.model_ms += 1e3 * (time.perf_counter() - begin)

    with unittest.mock.patch.object(Binding, "run", timed):
        yield clock


class StampedSearch:
    """A search that notes when its logits came: the time, and the model's share of it."""

    def __init__(self, search: Search, clock: Clock) -> None:
        self._search, self._clock = search, clock
        self.stamps: list[tuple[float, float]] = []

    @property
    def rows(self) -> int:
        """See Search."""
        return self._search.rows

    @property
    def tokens(self) -> Tokens:
        """See Search."""
        return self._search.tokens

    def step(self, logits: Floats, *, last: bool = False) -> Step:
        """See Search."""
        step = self._search.step(logits, last=last)
        self.stamps.append((1e3 * time.perf_counter(), self._clock.model_ms))
        return step

    def results(self) -> list[Generated]:
        """See Search."""
        return self._search.results()


class Loop:
    """Requests through the token loop, `count` at a time; `python_ms` is what was not the model's of each step."""

    def __init__(
        self,
        file: Path,
        clock: Clock,
        *,
        count: int = 1,
        encoder: Path | None = None,
        parameters: Mapping[str, object] | None = None,
    ) -> None:
        session = Session(file, threads=decoder.THREADS, steps=True)
        self._encoder = Session(encoder, threads=decoder.THREADS) if encoder else None
        graph = Graph(inputs=_tensors(session.inputs), outputs=_tensors(session.outputs))
        self._loop = TokenLoop(lambda width: Batch(Decoder(session, graph, width)), budget_bytes=2**40)
        self._options = resolve({**(parameters or {}), "max_new_tokens": decoder.NEW})
        self._count, self._clock = count, clock
        self.python_ms: list[float] = []

    def run(self, prompt: Sequence[int]) -> list[float]:
        """Milliseconds to the last request's first token, and of each step that writes a token of all requests."""
        made = [self._job(np.array(prompt)) for _ in range(self._count)]
        begin = 1e3 * time.perf_counter()
        self._loop.run([job for _, job in made])
        first, last = made[0][0].stamps, made[-1][0].stamps
        together = [stamp for stamp in last if stamp[0] <= first[-1][0]]
        steps = [(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(together)]
        self.python_ms += [whole - model for whole, model in steps]
        return [last[0][0] - begin, *(whole for whole, _ in steps)]

    def _job(self, source: Array) -> "tuple[StampedSearch, Job]":
        prompt = source[:1] if self._encoder else source
        total = self._options.total_length(len(prompt))
        search = StampedSearch(make_search(self._options, prompt, max_length=total, source=source), self._clock)
        encode = (lambda: self._encode(source)) if self._encoder else None
        return search, Job(search, prompt, self._options.rows, total, encode)

    def _encode(self, source: Array) -> Mapping[str, Array]:
        assert self._encoder is not None  # noqa: S101 - only encoder-decoder models have sources
        outputs = self._encoder.run({"input_ids": source[None], "attention_mask": np.ones((1, len(source)), np.int64)})
        return {name: array[0] for name, array in outputs.items()}


def torch_generate(folder: Path, auto_class: str, beams: int = 1) -> decoder.Run:
    """transformers' `generate`."""
    import torch
    import transformers

    torch.set_num_threads(decoder.THREADS)
    return generate(getattr(transformers, auto_class).from_pretrained(folder).eval(), beams)


def generate(model: Any, beams: int) -> decoder.Run:  # transformers is untyped here
    """The `generate` of transformers or optimum, timed where it hands logits on."""
    import torch
    import transformers

    config = model.config
    settings = transformers.GenerationConfig(
        max_new_tokens=decoder.NEW,
        num_beams=beams,
        do_sample=False,
        pad_token_id=0,
        decoder_start_token_id=config.decoder_start_token_id if config.is_encoder_decoder else None,
    )
    model.generation_config = settings
    stamps: list[float] = []

    def note(_: Any, scores: Any) -> Any:
        stamps.append(1e3 * time.perf_counter())
        return scores

    def run(prompt: Sequence[int]) -> list[float]:
        stamps[:] = [1e3 * time.perf_counter()]
        ids = torch.tensor([list(prompt)])
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), logits_processor=[note])
        return [after - before for before, after in itertools.pairwise(stamps)]

    return run


def _tensors(ports: Sequence[Port]) -> tuple[Tensor, ...]:
    return tuple(Tensor(name=port.name, dtype=port.dtype, shape=port.shape) for port in ports)


if __name__ == "__main__":
    main()
