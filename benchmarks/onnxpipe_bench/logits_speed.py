"""What a step of search costs without the model: scores in, next tokens out, beside transformers' processors.

python -m onnxpipe_bench.logits_speed [--repeats 100]

The reference does the same work with torch: processors, then argmax or multinomial; for beams the selection that its
`_beam_search` makes of the scores, without its bookkeeping of sequences.
"""

import argparse
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxpipe.generation.options import resolve
from onnxpipe.generation.search import make_search
from onnxpipe_bench.measure import interleave, percentiles, write_result

_VOCABULARIES = (32000, 49152, 151936)
_PROMPT = 256
_EOS = 2
_SAMPLING = {"do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.9}
_PENALTIES = {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3, "min_new_tokens": 10_000}


@dataclasses.dataclass(frozen=True)
class Case:
    """Options as both libraries name them, and the rows of a step."""

    name: str
    options: Mapping[str, Any]
    rows: int = 1


CASES = (
    Case("greedy", {}),
    Case("greedy, penalties", _PENALTIES),
    Case("sampling, temperature only", {"do_sample": True, "temperature": 0.8}),
    Case("sampling, top_p 0.9 only", {"do_sample": True, "top_p": 0.9}),
    Case("sampling, temperature, top_k 50, top_p 0.9", _SAMPLING),
    Case("sampling with penalties", {**_SAMPLING, **_PENALTIES}),
    Case("4 beams", {"num_beams": 4}, rows=4),
    Case("4 beams, penalties", {"num_beams": 4, **_PENALTIES}, rows=4),
)


def main() -> None:
    """Measure every case at every size of vocabulary and store the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=100)
    args = parser.parse_args()
    rows = []
    print(f"{'vocabulary':>10}  {'case':<44} {'ours p50':>9} {'torch p50':>9} {'ratio':>6}  (ms)")
    for vocabulary in _VOCABULARIES:
        generator = np.random.default_rng(0)
        # a few likely tokens over a wide tail, as language models have it
        logits = generator.standard_t(4, size=(4, vocabulary)).astype(np.float32) * 2
        logits[:, _EOS] = -30  # never drawn, so that no search ends
        prompt = generator.integers(vocabulary, size=_PROMPT)
        for case in CASES:
            candidates = {
                "ours": our_step(case, prompt, logits[: case.rows]),
                "transformers": reference_step(case, prompt, logits[: case.rows]),
            }
            times = interleave(candidates, repeats=args.repeats)
            figures = {f"{name}_ms": percentiles(values) for name, values in times.items()}
            rows.append({"vocabulary": vocabulary, "case": case.name, "rows": case.rows, **figures})
            ours, theirs = (figures[f"{name}_ms"]["p50"] for name in candidates)
            print(f"{vocabulary:>10}  {case.name:<44} {ours:>9.3f} {theirs:>9.3f} {theirs / ours:>6.1f}", flush=True)
    print(f"-> {write_result('logits_speed', {'prompt_tokens': _PROMPT, 'repeats': args.repeats, 'rows': rows})}")


def our_step(case: Case, prompt: NDArray[np.int64], logits: NDArray[np.float32]) -> Callable[[], object]:
    """One step of a search that goes on as long as it is asked to."""
    options = resolve({**case.options, "eos_token_id": _EOS, "seed": 0, "max_new_tokens": 10**5})
    search = make_search(options, prompt, max_length=options.total_length(len(prompt)))
    search.step(logits[:1])
    return lambda: search.step(logits)


def reference_step(case: Case, prompt: NDArray[np.int64], logits: NDArray[np.float32]) -> Callable[[], object]:
    """The same with torch and transformers' own processors."""
    import torch
    import transformers

    torch.set_num_threads(1)
    config = transformers.GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=8, n_positions=8)
    model = transformers.GPT2LMHeadModel(config)
    settings = transformers.GenerationConfig(
        **{"top_k": 0, "eos_token_id": _EOS, "pad_token_id": _EOS, "max_length": 10**6, **case.options}
    )
    model._prepare_special_tokens(settings, kwargs_has_attention_mask=True, device="cpu")
    processors = model._get_logits_processor(
        settings, input_ids_seq_length=len(prompt), encoder_input_ids=torch.tensor(prompt)[None], device="cpu"
    )
    given, tokens = torch.tensor(logits), torch.tensor(prompt).repeat(len(logits), 1)
    totals = torch.zeros(len(logits), 1)

    def step() -> object:
        with torch.inference_mode():
            if "num_beams" in case.options:
                scores = processors(tokens, given.log_softmax(dim=-1)) + totals
                return scores.flatten().topk(2 * len(logits))
            scores = processors(tokens, given.clone())
            if case.options.get("do_sample"):
                return torch.multinomial(scores.softmax(dim=-1), num_samples=1)
            return scores.argmax(dim=-1)

    return step


if __name__ == "__main__":
    main()
