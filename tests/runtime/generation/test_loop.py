import contextlib
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import ScriptedDecoder, search

from onnxpipe.errors import Cancelled, InvalidInput, Overloaded, UnprocessableInput
from onnxpipe.generation.batch import Batch
from onnxpipe.generation.loop import Job, TokenLoop

MANY = 2**30


class Server:
    """A loop over scripted decoders, which it keeps by how many rows share a source."""

    def __init__(self, budget_bytes=MANY, **limits):
        self.decoders = {}
        self.loop = TokenLoop(self._make, budget_bytes=budget_bytes, **limits)

    def _make(self, width):
        self.decoders[width] = ScriptedDecoder(width)
        return Batch(self.decoders[width])

    @property
    def blocks(self):
        return sum(len(batch._owners) for batch in self.loop._batches.values())


def job(prompt=(5, 6, 7), *, source=None, **parameters):
    prompt = np.array(prompt)
    found, rows, total = search(prompt, **parameters)
    encode = None if source is None else lambda: {"cross_key_values.0.key": np.full((1, 1, 1), source, np.float32)}
    return Job(found, prompt, rows, total, encode, 0 if source is None else 1)


def answers(one):
    return [text.ids.tolist() for text in one.search.results()]


def alone(**request):
    one = job(**request)
    Server().loop.run([one])
    return answers(one)


prompts = st.lists(st.integers(3, 22), min_size=1, max_size=20)
manners = st.sampled_from(
    [
        {},
        {"num_beams": 3},
        {"num_beams": 4, "num_return_sequences": 2},
        {"do_sample": True, "seed": 7, "num_return_sequences": 3},
        {"max_new_tokens": 1},
        {"repetition_penalty": 1.5, "max_new_tokens": 30},
    ]
)
requests = st.lists(st.tuples(prompts, manners, st.none() | st.integers(1, 5)), min_size=1, max_size=8)


@settings(max_examples=60)
@given(requests)
def test_requests_that_are_written_together_say_what_each_says_alone(drawn):
    # a decoder has an encoder or it has none; here both kinds share a loop, each with batches of its own
    made = [
        {
            "prompt": prompt,
            **manner,
            **({} if source is None or manner.get("num_beams", 1) == 1 else {"source": source}),
        }
        for prompt, manner, source in drawn
    ]
    server, jobs = Server(), [job(**request) for request in made]
    server.loop.run(jobs)
    assert [answers(one) for one in jobs] == [alone(**request) for request in made]
    assert server.blocks == 0


def test_requests_of_several_threads_share_steps(monkeypatch):
    run = ScriptedDecoder.run
    # as long as a step of a model, for others to come meanwhile
    monkeypatch.setattr(ScriptedDecoder, "run", lambda *given: time.sleep(0.005) or run(*given))
    server = Server()
    jobs = [job((3 + number, 4), max_new_tokens=20, min_new_tokens=20) for number in range(6)]
    threads = [threading.Thread(target=lambda one=one: list(server.loop.steps(one))) for one in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    monkeypatch.undo()
    assert [answers(one) for one in jobs] == [
        alone(prompt=(3 + number, 4), max_new_tokens=20, min_new_tokens=20) for number in range(6)
    ]
    assert max(rows for rows, _ in server.decoders[1].runs) > 1


def test_steps_come_one_by_one_and_end_with_the_text():
    one = job(max_new_tokens=5, min_new_tokens=5)
    steps = [step for step in Server().loop.steps(one) if step.choices]
    assert [step.choices[0].token for step in steps] == answers(one)[0]
    assert [step.choices[0].finish_reason for step in steps] == [None] * 4 + ["length"]


def test_a_request_that_is_given_up_leaves_at_once():
    server = Server()
    steps = server.loop.steps(job(max_new_tokens=50, min_new_tokens=50))
    next(steps)
    assert server.blocks == 1
    steps.close()
    assert server.blocks == 0


def test_the_others_go_on_when_one_is_given_up():
    server, kept = Server(), job((9, 9), max_new_tokens=20, min_new_tokens=20)
    first = server.loop.steps(job(max_new_tokens=50, min_new_tokens=50))
    second = server.loop.steps(kept)
    next(first)
    for _ in range(5):
        next(second)
    first.close()
    list(second)
    assert answers(kept) == alone(prompt=(9, 9), max_new_tokens=20, min_new_tokens=20)
    assert server.blocks == 0


def test_a_long_prompt_does_not_stall_those_that_write():
    server = Server()
    writing = job((5, 5), max_new_tokens=40, min_new_tokens=40)
    steps = server.loop.steps(writing)
    next(steps)
    reading = job(range(3, 23), max_new_tokens=2, min_new_tokens=2)
    reading.prompt = reading.text.prompt = np.tile(np.arange(3, 23), 30)
    reading.search, _, reading.total_length = search(reading.prompt, max_new_tokens=2)
    thread = threading.Thread(target=lambda: list(server.loop.steps(reading)))
    thread.start()
    list(steps)
    thread.join(30)
    pieces = [count for _, count in server.decoders[1].runs if count > 2]
    assert max(pieces[:-1], default=128) <= 128 or pieces == [512, 88]
    assert sum(pieces) == 600


def test_more_requests_than_may_wait_are_refused():
    server = Server(max_waiting=1)
    blocked = threading.Event()

    class Slow:
        rows = 1

        def step(self, logits, *, last=False):
            blocked.wait(10)
            raise InvalidInput("enough")

        def results(self):
            return []

    slow, waiting = job(), job()
    slow.search = Slow()
    threads = [threading.Thread(target=lambda one=one: _drain(server, one)) for one in (slow, waiting)]
    threads[0].start()
    while not server.loop._running:
        time.sleep(0.001)
    threads[1].start()
    while not server.loop._waiting:
        time.sleep(0.001)
    with pytest.raises(Overloaded, match="1 requests are waiting for this model already; try again later"):
        next(server.loop.steps(job()))
    blocked.set()
    for thread in threads:
        thread.join(30)
    assert isinstance(slow.error, InvalidInput)
    assert answers(waiting) == alone()


def test_a_request_beyond_the_memory_for_keys_and_values_is_refused():
    with pytest.raises(UnprocessableInput, match=r"215 tokens in 1 rows take .* at most .* are allowed: shorten"):
        Server(budget_bytes=400).loop.run([job(range(3, 18), max_new_tokens=200)])


def test_the_keys_and_values_of_a_source_count_too():
    two = {"source": 3, "num_beams": 2}  # two rows of 15 positions, and one of the source, of 4 bytes each
    Server(budget_bytes=124).loop.run([job(**two)])
    with pytest.raises(UnprocessableInput, match=r"15 tokens in 2 rows take .* or ask for fewer tokens or rows"):
        Server(budget_bytes=123).loop.run([job(**two)])


def test_requests_wait_until_there_is_memory():
    # one row of 14 positions, of 4 bytes each
    server, jobs = Server(budget_bytes=56), [job((4, number)) for number in range(3, 9)]
    server.loop.run(jobs)
    assert [answers(one) for one in jobs] == [alone(prompt=(4, number)) for number in range(3, 9)]
    assert {rows for rows, _ in server.decoders[1].runs} == {1}


def test_a_text_ends_where_it_is_when_its_time_is_up():
    one = job(max_new_tokens=50, min_new_tokens=50)
    one.deadline = time.monotonic()
    Server().loop.run([one])
    assert [text.finish_reason for text in one.search.results()] == ["length"]
    assert len(answers(one)[0]) == 1


def test_a_request_that_fails_fails_alone():
    class Broken:
        rows = 1

        def step(self, logits, *, last=False):
            raise InvalidInput("no token may follow")

        def results(self):
            return []

    server, broken, fine = Server(), job(), job((8,))
    broken.search = Broken()
    thread = threading.Thread(target=lambda: list(server.loop.steps(fine)))
    thread.start()
    with pytest.raises(InvalidInput, match="no token may follow"):
        list(server.loop.steps(broken))
    thread.join(30)
    assert answers(fine) == alone(prompt=(8,))
    assert server.blocks == 0


def test_a_check_between_two_steps_ends_all_that_was_written_together():
    server, jobs, calls = Server(), [job(max_new_tokens=50), job((8,), max_new_tokens=50)], []

    def check():
        calls.append(None)
        if len(calls) == 4:
            raise Cancelled("gone")

    with pytest.raises(Cancelled, match="gone"):
        server.loop.run(jobs, check)
    assert all(isinstance(one.error, Cancelled) for one in jobs)
    assert server.blocks == 0


def test_when_the_model_fails_all_its_requests_do(monkeypatch):
    server, jobs = Server(), [job(), job((8,))]
    monkeypatch.setattr(ScriptedDecoder, "run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        server.loop.run(jobs)
    assert all(isinstance(one.error, ZeroDivisionError | Cancelled) for one in jobs)
    monkeypatch.undo()
    again = job()
    server.loop.run([again])
    assert answers(again) == alone()


def test_the_log_probabilities_of_a_prompt_are_those_of_its_tokens():
    prompt = np.arange(3, 23).repeat(4)
    one = job(prompt, max_new_tokens=1)
    one.prompt_logprobs = True
    Server().loop.run([one])
    decoder = ScriptedDecoder()
    logits = decoder.run(0, prompt[None], np.zeros(1, np.int64), np.arange(len(prompt))[None])[0]
    expected = [row[token] - np.log(np.exp(row).sum()) for row, token in zip(logits, prompt[1:], strict=False)]
    np.testing.assert_allclose(one.prompt_scores, expected, atol=1e-5)


def test_an_idle_loop_keeps_little_memory(monkeypatch):
    monkeypatch.setattr("onnxpipe.generation.loop._IDLE_BYTES", 100)
    server = Server()
    server.loop.run([job(range(3, 23), max_new_tokens=60)])
    assert server.decoders[1].size_bytes == 0


def test_all_idle_batches_share_what_they_may_keep(monkeypatch):
    monkeypatch.setattr("onnxpipe.generation.loop._IDLE_BYTES", 1000)
    server = Server()
    for beams in (2, 3, 4, 5):
        server.loop.run([job(source=1, num_beams=beams)])
    assert sum(decoder.size_bytes for decoder in server.decoders.values()) <= 1000


def _drain(server, one):
    with contextlib.suppress(InvalidInput):
        list(server.loop.steps(one))
