"""Texts that are being written, step by step, so that a request can be left between two steps."""

import collections
import contextlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

from onnxpipe.generation.pipeline import WritingPipeline
from onnxpipe.generation.transcript import Token
from onnxpipe.generation.writer import Composition
from onnxpipe.pipeline import Answer
from onnxpipe.records import Record

# Inputs of one request that are written at once: others want their steps too.
_TOGETHER = 32


def interleave(compositions: Iterable[Composition]) -> Generator[list[tuple[int, int, Token]], None, None]:
    """Steps of all compositions in turn: the number of one, that of its text, and the text's next token, for each text
    that got one.

    They are written together, so each gets on with every step of the model. Closing the generator ends all.
    """
    waiting = enumerate(compositions)
    running: collections.deque[tuple[int, Iterator[list[tuple[int, Token]]]]] = collections.deque()
    with contextlib.ExitStack() as stack:
        while True:
            while len(running) < _TOGETHER and (entering := next(waiting, None)) is not None:
                number, composition = entering
                # an iterator by its type, but closing it is what ends the work
                steps: Any = composition.steps()
                stack.callback(steps.close)
                running.append((number, steps))
            if not running:
                return
            number, steps = running.popleft()
            tokens = next(steps, None)
            if tokens is not None:
                running.append((number, steps))
                yield [(number, text, token) for text, token in tokens]


def write(
    pipeline: WritingPipeline[Any, Any, Any], inputs: Sequence[Any], parameters: Record
) -> Generator[None, None, Answer[Any]]:
    """The pipeline's answer, as `Pipeline.run` gives it; each item is a step of the model."""
    answer: Answer[Any] = Answer()
    begin = time.perf_counter()
    works = [pipeline.writing(item, parameters) for item in inputs]
    written = time.perf_counter()
    with contextlib.closing(interleave(work.composition for work in works)) as steps:
        for _ in steps:
            yield
    finishing = time.perf_counter()
    answer.results = [work.finish([]) for work in works]
    for work in works:
        answer.truncated_tokens += work.truncated_tokens
        answer.warnings.extend(warning for warning in work.warnings if warning not in answer.warnings)
        answer.elements += work.composition.token_count
    answer.preprocess_ms = 1e3 * (written - begin)
    answer.infer_ms = 1e3 * (finishing - written)
    answer.postprocess_ms = 1e3 * (time.perf_counter() - finishing)
    return answer
