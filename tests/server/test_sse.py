import asyncio
import itertools
import threading
import time

import pytest
from fastapi import FastAPI
from starlette.responses import Response

from fake_writer import events_of
from onnxpipe.errors import InvalidInput, Overloaded
from onnxpipe_server.middleware import RequestGuard
from onnxpipe_server.sse import Opening, Reply, event
from onnxpipe_server.status import add_error_handlers
from onnxpipe_server.workers import Workers
from visits import Visit, post, until


def make_app(parts, workers=None):
    """An application that answers with these parts."""
    workers = workers or Workers(max_running=2, max_waiting=2)
    app = FastAPI()
    add_error_handlers(app)
    app.add_middleware(RequestGuard)

    @app.post("/")
    async def answer():
        return Reply(workers, parts)

    return app


class Endless:
    """Events without an end; counts the steps that were made, and knows whether it was closed, and in which thread.

    The step after `held_after` waits until it is let go.
    """

    def __init__(self, held_after=None):
        self.held_after = held_after
        self.holding, self.let_go = threading.Event(), threading.Event()
        self.steps = 0
        self.closed_in = None
        self.begun_in = None

    def __call__(self):
        self.begun_in = threading.get_ident()
        try:
            yield Opening()
            for number in itertools.count():
                if self.steps == self.held_after:
                    self.holding.set()
                    self.let_go.wait(10)
                self.steps += 1
                yield event(number)
                time.sleep(0.001)
        finally:
            self.closed_in = threading.get_ident()


def test_events_come_in_order_with_the_headers_of_a_stream(runner):
    def parts():
        yield None
        yield Opening({"x-sha": "abc"})
        yield event({"a": 1})
        yield None
        yield event([2])

    response = runner.run(post(make_app(parts)))

    assert events_of(response.text) == [{"a": 1}, [2]]
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-sha"] == "abc"
    assert "content-length" not in response.headers


def test_steps_may_end_in_an_answer_of_any_kind(runner):
    def parts():
        yield from [None] * 5
        yield Response("whole", status_code=201)

    response = runner.run(post(make_app(parts)))

    assert (response.status_code, response.text) == (201, "whole")


@pytest.mark.parametrize("opened", [False, True])
def test_what_fails_before_the_first_event_has_a_status(runner, opened):
    def parts():
        if opened:
            yield Opening()
        yield None
        raise InvalidInput("too long")

    response = runner.run(post(make_app(parts)))

    assert response.status_code == 400
    assert response.json() == {"error": "too long", "error_type": "validation"}


def test_what_fails_later_is_the_last_event(runner):
    def parts():
        yield Opening()
        yield event(1)
        raise Overloaded("too much")

    response = runner.run(post(make_app(parts)))

    assert response.status_code == 200
    assert events_of(response.text) == [1, {"error": "too much", "error_type": "overloaded"}]


def test_a_bug_in_a_stream_hides_its_inside_and_is_found_in_the_log(runner, caplog):
    def parts():
        yield Opening()
        yield event(1)
        raise KeyError("the secret of line 7")

    response = runner.run(post(make_app(parts)))

    request_id = response.headers["x-request-id"]
    assert events_of(response.text)[-1] == {"error": f"unknown error (request {request_id})", "error_type": "internal"}
    assert f"request {request_id} failed" in caplog.text
    assert "the secret of line 7" in caplog.text


def test_a_client_that_leaves_ends_the_work_within_a_step_in_its_own_thread(runner):
    endless = Endless(held_after=7)

    async def leave():
        visit = Visit(make_app(endless))
        running = asyncio.create_task(visit.run())
        await until(endless.holding.is_set)
        visit.left.set()
        await asyncio.sleep(0.02)
        endless.let_go.set()
        await running

    runner.run(leave())

    assert endless.steps == 8
    assert endless.closed_in == endless.begun_in


def test_a_slow_client_slows_its_own_stream_down(runner):
    endless = Endless()

    async def dawdle():
        visit = Visit(make_app(endless))
        running = asyncio.create_task(visit.run())
        await until(lambda: len(visit.messages) > 2)
        visit.taking.clear()
        taken = len(visit.messages)
        await asyncio.sleep(0.3)
        ahead = endless.steps - taken
        visit.left.set()
        visit.taking.set()
        await running
        return ahead

    assert runner.run(dawdle()) < 40


def test_a_place_is_given_back_however_a_stream_ends(runner):
    workers = Workers(max_running=1, max_waiting=0)

    def fails():
        yield Opening()
        yield event(1)
        raise KeyError("bug")

    def refuses():
        yield None
        raise InvalidInput("no")

    def ends():
        yield Opening()
        yield event(1)

    async def visits():
        for parts in (fails, refuses, ends, fails, ends):
            await post(make_app(parts, workers))
        visit = Visit(make_app(Endless(), workers))
        running = asyncio.create_task(visit.run())
        await until(lambda: visit.messages)
        busy = await post(make_app(ends, workers))
        visit.left.set()
        await running
        return busy, await post(make_app(ends, workers))

    busy, free = runner.run(visits())

    assert (busy.status_code, busy.headers["retry-after"]) == (429, "1")
    assert free.status_code == 200


def test_a_server_that_stops_ends_the_work_too(runner):
    endless, workers = Endless(), Workers(max_running=1, max_waiting=0)

    async def stop():
        visit = Visit(make_app(endless, workers))
        running = asyncio.create_task(visit.run())
        await until(lambda: visit.messages)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert endless.closed_in == endless.begun_in
        return await workers.run(lambda: "free")

    assert runner.run(stop()) == "free"


def test_a_client_that_leaves_the_queue_is_never_worked_for(runner):
    workers, second = Workers(max_running=1, max_waiting=1), Endless()

    async def visits():
        first_visit = Visit(make_app(Endless(), workers))
        waiting_visit = Visit(make_app(second, workers))
        first = asyncio.create_task(first_visit.run())
        await until(lambda: first_visit.messages)
        waiting = asyncio.create_task(waiting_visit.run())
        await asyncio.sleep(0.02)
        refused = await post(make_app(Endless(), workers))
        waiting_visit.left.set()
        await waiting
        third_visit = Visit(make_app(second, workers))  # its place in the queue is free again
        third = asyncio.create_task(third_visit.run())
        await asyncio.sleep(0.02)
        assert not third.done()
        third_visit.left.set()
        await third
        first_visit.left.set()
        await first
        return refused

    assert runner.run(visits()).status_code == 429
    assert second.steps == 0
