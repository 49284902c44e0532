"""OpenVINO GenAI decoding greedily, run by an interpreter that has it: `python openvino_decoder.py FILE THREADS NEW`.

FILE is a GGUF, which it reads itself; lines in and out are those of `genai_decoder`. Needs nothing of this project.
"""

import itertools
import json
import sys
import time

import numpy as np
import openvino  # type: ignore[import-not-found]  # not in this project's environment
import openvino_genai  # type: ignore[import-not-found]  # nor this


class Stamps(openvino_genai.StreamerBase):  # type: ignore[misc]  # untyped
    """Notes when tokens come."""

    def __init__(self) -> None:
        super().__init__()
        self.times = [time.perf_counter()]

    def write(self, token: int | list[int]) -> openvino_genai.StreamingStatus:
        """Take what is new."""
        self.times += [time.perf_counter()] * (1 if isinstance(token, int) else len(token))
        return openvino_genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """There is nothing to finish."""


def main() -> None:
    """Answer until stdin ends."""
    file, threads, new_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    pipeline = openvino_genai.LLMPipeline(file, "CPU", INFERENCE_NUM_THREADS=threads)
    settings = openvino_genai.GenerationConfig(max_new_tokens=new_tokens, do_sample=False, ignore_eos=True)
    print("ready", flush=True)
    for line in sys.stdin:
        prompt = np.array([[int(token) for token in line.split()]])
        stamps = Stamps()
        pipeline.generate(openvino.Tensor(prompt), settings, stamps)
        times = [1e3 * (after - before) for before, after in itertools.pairwise(stamps.times)]
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
