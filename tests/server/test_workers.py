import asyncio
import threading

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


def test_the_server_answers_others_while_one_request_works(served, make_client, gate):
    client = make_client(served("a", "labels"), max_running=1)
    threading.Timer(0.3, gate.gate.set).start()

    slow, health = client.together(("POST", "/", {"json": "wait"}), ("GET", "/health", {}))

    assert slow.status_code == health.status_code == 200
    assert slow.elapsed.total_seconds() > 0.2 > health.elapsed.total_seconds()
