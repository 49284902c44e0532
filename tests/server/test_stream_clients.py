"""Clients of streams: what one does, or leaves undone, changes nothing for others, and costs no step."""

import asyncio
import threading

import httpx
import pytest

from fake_writer import Gate, events_of, writer_of
from visits import Visit, post, until


def test_others_are_answered_while_a_stream_makes_a_step(runner, letters_model, make_client):
    app, writer = make_client(letters_model).app, writer_of(letters_model)
    writer.gate = gate = Gate(0)

    async def both():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
            slow = asyncio.create_task(client.post("/generate_stream", json={"inputs": "w"}))
            await until(gate.waiting.is_set)
            health = await client.get("/health")
            assert not slow.done()
            gate.open()
            return health, await slow

    try:
        health, slow = runner.run(both())
    finally:
        gate.open()
    assert (health.status_code, slow.status_code) == (200, 200)


ENDLESS = {"inputs": "0", "parameters": {"max_new_tokens": 500}}
STREAMS = [
    ("/generate_stream", ENDLESS),
    ("/models/acme/letters", {**ENDLESS, "stream": True}),
    ("/v1/completions", {"prompt": ["0", "1"], "max_tokens": 450, "stream": True}),
]
WHOLE = [
    ("/generate", ENDLESS),
    ("/models/acme/letters", {**ENDLESS, "inputs": ["0", "1"]}),
    ("/models/acme/letters", {"inputs": "0", "parameters": {"max_new_tokens": 500, "num_beams": 3}}),
    ("/v1/completions", {"prompt": "0", "max_tokens": 500, "n": 2}),
]


@pytest.mark.parametrize(("path", "body"), STREAMS + WHOLE)
def test_the_model_stops_within_a_step_when_the_client_leaves(runner, letters_model, make_client, path, body):
    app, writer = make_client(letters_model, max_writing=1, max_waiting=0).app, writer_of(letters_model)
    begin = writer.steps
    # later steps wait, so that it is certain which one the client leaves in
    writer.gate = gate = Gate(begin + 20)

    async def leave():
        visit = Visit(app, path, body)
        running = asyncio.create_task(visit.run())
        await until(gate.waiting.is_set)
        visit.left.set()
        await asyncio.sleep(0.02)
        gate.open()
        await running
        return writer.steps

    try:
        steps = runner.run(leave())
    finally:
        gate.open()
    assert steps - begin <= 22
    assert writer.idle
    assert runner.run(post(app, "/generate", {"inputs": "w"})).status_code == 200


def test_a_client_may_leave_while_its_grammar_is_being_compiled(runner, letters_model, make_client, monkeypatch):
    pytest.importorskip("llguidance", reason="grammars need the chat extra")
    app = make_client(letters_model, max_writing=1, max_waiting=0).app
    begun, go = threading.Event(), threading.Event()
    compiler = letters_model.generator._grammars
    make = compiler._make
    monkeypatch.setattr(compiler, "_make", lambda *arguments: (begun.set(), go.wait(20), make(*arguments)))

    async def leave():
        grammar = {"type": "regex", "value": "left while it was compiled"}
        visit = Visit(app, "/generate", {"inputs": "w", "parameters": {"grammar": grammar}})
        running = asyncio.create_task(visit.run())
        await until(begun.is_set)
        visit.left.set()
        await running
        return await post(app, "/generate", {"inputs": "w"})

    try:
        assert runner.run(leave()).status_code == 200
        assert not go.is_set()
    finally:
        go.set()


def test_a_client_that_leaves_before_the_first_token_ends_the_work_too(runner, letters_model, make_client):
    app, writer = make_client(letters_model).app, writer_of(letters_model)
    begin = writer.steps
    writer.gate = gate = Gate(0)

    async def leave():
        visit = Visit(app, "/generate_stream", ENDLESS)
        running = asyncio.create_task(visit.run())
        await until(gate.waiting.is_set)
        visit.left.set()
        await asyncio.sleep(0.02)
        gate.open()
        await running

    try:
        runner.run(leave())
    finally:
        gate.open()
    assert writer.steps - begin <= 2
    assert writer.idle


def test_streams_of_several_clients_do_not_change_each_other(runner, letters_model, make_client):
    app = make_client(letters_model).app

    async def crowd():
        return await asyncio.gather(*(post(app, "/generate_stream", {"inputs": letter}) for letter in "abcdefgh" * 3))

    for response, letter in zip(runner.run(crowd()), "abcdefgh" * 3, strict=True):
        expected = "".join(map(chr, range(ord(letter) + 1, ord("z") + 1)))
        assert events_of(response.text)[-1]["generated_text"] == expected
