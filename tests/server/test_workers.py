import asyncio
import threading

import httpx
import pytest

from onnxpipe.errors import Overloaded
from onnxpipe_server.workers import Workers


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
