import asyncio
import threading

import httpx
import pytest

from onnxpipe.errors import Overloaded
from onnxpipe_server.workers import Line, Workers, read_timeout


def test_work_beyond_the_queue_is_refused_and_the_rest_is_done(runner):
    release = threading.Event()

    async def crowd():
        workers = Workers(max_running=1, max_waiting=1)
        accepted = [asyncio.create_task(workers.run(lambda: release.wait(10))) for _ in range(2)]
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="1 requests wait already"):
            await workers.run(lambda: None)
        release.set()
        return await asyncio.gather(*accepted)

    assert runner.run(crowd()) == [True, True]


def test_without_a_queue_a_free_worker_still_works(served, make_client):
    client = make_client(served("a", "labels"), max_running=1, max_waiting=0)

    assert client.post("/", json="now").status_code == 200


def test_the_server_answers_others_while_one_request_works(served, make_client, runner, gate):
    app = make_client(served("a", "labels"), max_running=1).app

    async def both():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            slow = asyncio.create_task(client.post("/", json="wait"))
            while not gate.started.acquire(blocking=False):
                await asyncio.sleep(0.001)
            health = await client.get("/health")
            assert not slow.done()
            gate.gate.set()
            return health, await slow

    assert [response.status_code for response in runner.run(both())] == [200, 200]


def post(client, text, **headers):
    return client.post("/", json=text, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("given", ["soon", "0", "-1", "inf", "nan"])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(labels, given):
    answer = post(labels, "now", x_request_timeout=given)

    assert answer.status_code == 400
    assert answer.json()["error"] == f"`x-request-timeout`: expected seconds above 0, given '{given}'"


def test_a_timeout_longer_than_the_servers_own_is_cut():
    assert read_timeout({"x-request-timeout": "500"}, 120) == 120
    assert read_timeout({"x-request-timeout": "0.5"}, 120) == 0.5
    assert read_timeout({}, 120) == 120


def serve(make_client, served, **settings):
    client = make_client(served("a", "labels"), **settings)
    return httpx.AsyncClient(transport=httpx.ASGITransport(client.app), base_url="http://server")


async def started(gate):
    while not gate.started.acquire(blocking=False):
        await asyncio.sleep(0.001)


def test_a_request_whose_time_ends_while_it_waits_for_a_thread_is_told_so_at_once(served, make_client, runner, gate):
    async def both():
        async with serve(make_client, served, max_running=1) as client:
            slow = asyncio.create_task(client.post("/", json="wait"))
            await started(gate)
            late = await client.post("/", json="late", headers={"x-request-timeout": "0.1"})
            assert not slow.done()
            gate.gate.set()
            return late, await slow

    late, slow = runner.run(both())

    assert late.status_code == 504
    assert late.json() == {"error": "Request timed out after 0.1 s", "error_type": "timeout"}
    assert int(late.headers["retry-after"]) >= 1
    assert slow.status_code == 200


def test_what_is_over_the_queue_is_refused_with_the_time_to_come_back(served, make_client, runner, gate):
    async def crowd():
        async with serve(make_client, served, max_running=1, max_waiting=1) as client:
            slow = [asyncio.create_task(client.post("/", json="wait"))]
            await started(gate)
            slow.append(asyncio.create_task(client.post("/", json="next")))
            await asyncio.sleep(0.02)
            refused = await client.post("/", json="too many")
            gate.gate.set()
            return refused, await asyncio.gather(*slow)

    refused, accepted = runner.run(crowd())

    assert refused.status_code == 429
    assert refused.json()["error_type"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1
    assert [response.status_code for response in accepted] == [200, 200]


def test_requests_are_refused_that_the_measured_speed_leaves_no_time_for(runner):
    line = Line(max_running=1, max_waiting=10)

    async def work_through():
        release = threading.Event()
        line.measure(0.0)
        tasks = [asyncio.create_task(line.threads.run(lambda: release.wait(10))) for _ in range(3)]
        await asyncio.sleep(0.02)
        for second in range(1, 400):
            line.measure(float(second))
        line.admit(timeout_s=5)
        with pytest.raises(Overloaded, match="within 1 s is not to be expected, with 2 requests waiting") as refused:
            line.admit(timeout_s=1)
        release.set()
        await asyncio.gather(*tasks)
        return refused.value.retry_after_s

    assert runner.run(work_through()) == pytest.approx(2, rel=0.01)


def test_a_client_that_leaves_frees_its_place_in_the_queue(served, make_client, runner, gate):
    app = make_client(served("a", "labels"), max_running=1).app
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "server": ("server", 80),
        "client": ("client", 1),
        "http_version": "1.1",
        "root_path": "",
    }

    async def leave():
        sent, messages = [], [{"type": "http.disconnect"}, {"type": "http.request", "body": b'"crash"'}]

        async def receive():
            return messages.pop() if messages else await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")
        slow = asyncio.create_task(client.post("/", json="wait"))
        await started(gate)
        await app(scope, receive, send)
        assert not slow.done()
        gate.gate.set()
        await slow
        await client.aclose()
        return sent[0]["status"]

    assert runner.run(leave()) == 499
    # never worked on: it would have made the application fail


def test_files_and_long_texts_have_few_threads_of_their_own(served, make_client, runner, gate):
    async def both():
        async with serve(make_client, served, max_large=1) as client:
            slow = asyncio.create_task(client.post("/", json={"inputs": "wait", "padding": "x" * 200_000}))
            await started(gate)
            second = asyncio.create_task(client.post("/", json={"inputs": "second", "padding": "x" * 200_000}))
            small = await client.post("/", json="small")
            assert not slow.done()
            assert not second.done()
            gate.gate.set()
            return [small, await slow, await second]

    assert [response.status_code for response in runner.run(both())] == [200, 200, 200]
