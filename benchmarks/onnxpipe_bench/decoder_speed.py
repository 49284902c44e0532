"""Greedy decoding of a model of SmolLM-135M's shape: our graphs in a bare loop, beside other libraries.

    python -m onnxpipe_bench.decoder_speed [--genai PYTHON] [--cache .cache/decoder-speed] [--repeats 5]

Weights are random: speed does not care. Candidates take turns, each with one prompt of 32 tokens and 64 new tokens, on
two threads; "x 8" is eight texts decoding together, per step. PYTHON is an interpreter that has onnxruntime-genai (0.18
wants transformers 5, so it cannot be this one); without it that peer is left out.
"""

import argparse
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from onnxpipe_bench.measure import write_result
from onnxpipe_export.generation.weights import quantize_blocks, quantize_channels

PROMPT, NEW, ROWS, THREADS = 32, 64, 8, 2
# SmolLM-135M
SIZES = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
# milliseconds to the first token, and of every further one
Run = Callable[[Sequence[int]], list[float]]
Array = NDArray[Any]  # ids, lengths, states


def main() -> None:
    """Make what is missing, measure every candidate and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--genai", type=Path, help="an interpreter with onnxruntime-genai and what its builder needs")
    parser.add_argument("--cache", type=Path, default=Path(".cache/decoder-speed"))
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    model = make_model(args.cache / "model", SIZES)
    graphs = make_graphs(model, args.cache)
    sessions = {name: open_session(file) for name, file in graphs.items()}
    candidates: dict[str, Run] = {name: BoundLoop(session, rows=1).run for name, session in sessions.items()}
    candidates |= {f"{name} x {ROWS}": BoundLoop(session, rows=ROWS).run for name, session in sessions.items()}
    candidates["transformers fp32"] = torch_loop(model)
    candidates["optimum's graph fp32"] = PlainLoop(make_optimum(model, args.cache)).run
    if args.genai:
        for precision in ("fp32", "int4"):
            folder = make_genai(args.genai, model, args.cache, precision)
            candidates[f"onnxruntime-genai {precision}"] = peer_loop(args.genai, "genai", folder)
    rows = measure(candidates, args.repeats)
    sizes = {name: round(file.stat().st_size / 1e6, 1) for name, file in graphs.items()}
    result = {"model": "SmolLM-135M's shape, random", "prompt": PROMPT, "new_tokens": NEW, "threads": THREADS}
    print(f"-> {write_result('decoder_speed', {**result, 'megabytes': sizes, 'rows': rows})}")


def measure(candidates: Mapping[str, Run], repeats: int) -> list[dict[str, object]]:
    """Medians of each candidate over all repeats; one run before warms it up."""
    generator = np.random.default_rng(0)
    times: dict[str, list[list[float]]] = {name: [] for name in candidates}
    for turn in range(-1, repeats):
        prompt = generator.integers(5, SIZES["vocab_size"], PROMPT).tolist()
        for name, run in list(candidates.items())[:: 1 if turn % 2 else -1]:
            found = run(prompt)
            if turn >= 0:
                times[name].append(found)
    rows: list[dict[str, object]] = []
    print(f"{'':<24} {'first token':>12} {'next token':>12} {'best next':>12}  (ms)")
    for name, runs in times.items():
        first, later = [run[0] for run in runs], [step for run in runs for step in run[1:]]
        figures = {"first_ms": np.median(first), "next_ms": np.median(later), "next_best_ms": min(later)}
        print(f"{name:<24} " + " ".join(f"{value:>12.2f}" for value in figures.values()), flush=True)
        rows.append({"candidate": name, **{key: round(float(value), 3) for key, value in figures.items()}})
    return rows


def make_model(folder: Path, sizes: Mapping[str, object]) -> Path:
    """A random Llama in hub layout, with a tokenizer of numbers that no one uses but every library looks for."""
    if not folder.exists():
        import tokenizers
        import torch
        import transformers

        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes))
        model.save_pretrained(folder)
        words = tokenizers.models.WordLevel({"<unk>": 0, "</s>": 1, "1": 2}, unk_token="<unk>")  # noqa: S106  # a word
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers.Tokenizer(words),
            unk_token="<unk>",  # noqa: S106  # as above
            eos_token="</s>",  # noqa: S106
        ).save_pretrained(folder)
    return folder


def make_base(model: Path, cache: Path) -> Path:
    """Our graph in fp32."""
    base = cache / "decoder.onnx"
    if not base.exists():
        import transformers

        from onnxpipe_export.generation.decoder import trace_decoder
        from onnxpipe_export.generation.rewrite import rewrite
        from onnxpipe_export.generation.shapes import decoder_shape
        from onnxpipe_export.quiet import quiet

        traced = cache / "traced.onnx"
        with quiet():
            network = transformers.AutoModelForCausalLM.from_pretrained(model).eval()
            trace_decoder(network, decoder_shape(network.config), traced)
            rewrite(traced, base)
        traced.unlink()
    return base


def make_graphs(model: Path, cache: Path) -> dict[str, Path]:
    """Our graph in all precisions: name -> file."""
    base = make_base(model, cache)
    makers: dict[str, Callable[[Path], int]] = {
        "int8 blocks of 32": lambda file: quantize_blocks(base, file, bits=8, block_size=32),
        "int8 blocks of 64": lambda file: quantize_blocks(base, file, bits=8, block_size=64),
        "int8 channels": lambda file: quantize_channels(base, file, block_size=32),
        "int4 blocks of 32": lambda file: quantize_blocks(base, file, bits=4, block_size=32),
        "int4 blocks of 64": lambda file: quantize_blocks(base, file, bits=4, block_size=64),
    }
    files = {"fp32": base}
    for name, make in makers.items():
        files[name] = cache / f"decoder_{name.replace(' ', '_')}.onnx"
        if not files[name].exists():
            make(files[name])
    return files


def open_session(file: Path) -> Any:  # onnxruntime has no types
    """A session as the runtime opens it for decoders."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    options.enable_mem_pattern = False
    options.add_session_config_entry("session.intra_op.spin_duration_us", "10")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


class BoundLoop:
    """Our graph: buffers bound once as past and present, prompts row by row, then all rows a token at a time."""

    def __init__(self, session: Any, rows: int) -> None:  # onnxruntime has no types
        self._session = session
        ports = [port for port in self._session.get_inputs() if port.name.startswith("past_key_values.")]
        shapes = {port.name: (rows, port.shape[1], PROMPT + NEW, port.shape[3]) for port in ports}
        self._buffers = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        self._rows, self._vocabulary = rows, self._session.get_outputs()[0].shape[-1]
        self._prompts = [self._bind(row, 1, PROMPT) for row in range(rows)]
        self._step = self._bind(0, rows, 1)

    def run(self, prompt: Sequence[int]) -> list[float]:
        """Milliseconds of each token; every row has the same prompt."""
        begin = time.perf_counter()
        for row in range(self._rows):
            logits = self._call(self._prompts[row], np.array([prompt]), 0)
        tokens = np.repeat(logits.argmax(-1), self._rows, axis=0)
        times = [1e3 * (time.perf_counter() - begin)]
        for length in range(PROMPT, PROMPT + NEW - 1):
            begin = time.perf_counter()
            tokens = self._call(self._step, tokens, length).argmax(-1)
            times.append(1e3 * (time.perf_counter() - begin))
        return times

    def _call(self, bound: tuple[Any, dict[str, Array]], tokens: Array, length: int) -> Array:
        binding, arrays = bound
        new = tokens.shape[1]
        arrays["input_ids"][:] = tokens
        arrays["seqlens_k"][:] = length + new - 1
        arrays["total_sequence_length"][...] = length + new
        self._session.run_with_iobinding(binding)
        return arrays["logits"]

    def _bind(self, first: int, count: int, new: int) -> tuple[Any, dict[str, Array]]:
        arrays: dict[str, Array] = {
            "input_ids": np.zeros((count, new), np.int64),
            "seqlens_k": np.zeros(count, np.int32),
            "total_sequence_length": np.zeros((), np.int32),
            "logit_positions": np.full((count, 1), new - 1),
            "logits": np.zeros((count, 1, self._vocabulary), np.float32),
        }
        binding = self._session.io_binding()
        for name, array in arrays.items():
            bind = binding.bind_ortvalue_output if name == "logits" else binding.bind_ortvalue_input
            bind(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
        for name, buffer in self._buffers.items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(buffer[first : first + count])
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
        return binding, arrays


class PlainLoop:
    """optimum's graph: the present of a step fed as the past of the next."""

    def __init__(self, file: Path) -> None:
        self._session = open_session(file)
        self._past = [port for port in self._session.get_inputs() if port.name.startswith("past_key_values.")]
        self._names = {port.name for port in self._session.get_inputs()}

    def run(self, prompt: Sequence[int]) -> list[float]:
        """Milliseconds of each token."""
        past = {port.name: np.zeros((1, port.shape[1], 0, port.shape[3]), np.float32) for port in self._past}
        tokens, length, times = np.array([prompt]), 0, []
        for _ in range(NEW):
            begin = time.perf_counter()
            end = length + tokens.shape[1]
            feeds = {
                "input_ids": tokens,
                "attention_mask": np.ones((1, end), np.int64),
                "position_ids": np.arange(length, end)[None],
            }
            logits, *present = self._session.run(None, {n: v for n, v in feeds.items() if n in self._names} | past)
            past, length = dict(zip(past, present, strict=True)), end
            tokens = logits[:, -1:].argmax(-1)
            times.append(1e3 * (time.perf_counter() - begin))
        return times


def torch_loop(folder: Path) -> Run:
    """transformers' own model with its cache, without the overhead of `generate`."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()

    def run(prompt: Sequence[int]) -> list[float]:
        cache, tokens, times = transformers.DynamicCache(), torch.tensor([list(prompt)]), []
        with torch.inference_mode():
            for _ in range(NEW):
                begin = time.perf_counter()
                logits = model(tokens, past_key_values=cache, logits_to_keep=1).logits
                tokens = logits.argmax(-1)
                times.append(1e3 * (time.perf_counter() - begin))
        return times

    return run


def make_optimum(model: Path, cache: Path) -> Path:
    """optimum-onnx's graph with past."""
    folder = cache / "optimum"
    if not folder.exists():
        import transformers
        from optimum.exporters.onnx import onnx_export_from_model

        from onnxpipe_export.quiet import quiet

        with quiet():
            network = transformers.AutoModelForCausalLM.from_pretrained(model)
            onnx_export_from_model(network, folder, task="text-generation-with-past", do_validation=False)
    return folder / "model.onnx"


def make_genai(python: Path, model: Path, cache: Path, precision: str) -> Path:
    """The graph of onnxruntime-genai's model builder, made by an interpreter that has it."""
    folder = cache / f"genai-{precision}"
    if not folder.exists():
        command = [str(python), "-m", "onnxruntime_genai.models.builder", "-i", str(model), "-o", str(folder)]
        command += ["-p", precision, "-e", "cpu", "-c", str(cache / "genai-cache")]
        if precision == "int4":
            command += ["--extra_options", "int4_accuracy_level=4", "int4_block_size=32"]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  # what the command line named
    return folder


def make_gguf(python: Path, model: Path, cache: Path, kind: str) -> Path:
    """The same weights for llama.cpp and OpenVINO GenAI, made by an interpreter that has the packages for it."""
    file = cache / f"model-{kind}.gguf"
    if not file.exists():
        script = Path(__file__).parent / "peers" / "gguf_weights.py"
        subprocess.run([str(python), str(script), str(model), str(file), kind], check=True, capture_output=True)  # noqa: S603  # what the command line named
    return file


def peer_loop(python: Path, name: str, model: Path) -> Run:
    """One of `peers` in a process of its own, which waits while others have their turn."""
    script = Path(__file__).parent / "peers" / f"{name}_decoder.py"
    command = [str(python), str(script), str(model), str(THREADS), str(NEW)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  # as above
    send, receive = process.stdin, process.stdout
    if send is None or receive is None or receive.readline().strip() != "ready":
        process.kill()
        process.communicate()
        raise RuntimeError(f"{python} cannot run {script.name} on {model}")

    def run(prompt: Sequence[int]) -> list[float]:
        send.write(" ".join(map(str, prompt)) + "\n")
        send.flush()
        times: list[float] = json.loads(receive.readline())
        return times

    return run


if __name__ == "__main__":
    main()
