"""Contract, section 6: answers of the classic routes are kept."""

import asyncio
import base64

import httpx
import pytest

from onnxpipe.generation.options import SAMPLING

TEXT = {"inputs": "so it is", "parameters": {"top_k": 2}}


@pytest.fixture
def fresh(served, make_client):
    """A server of one model that nobody has asked yet."""
    return make_client(served("acme/labels", "labels", revision="abc123"))


def post(client, body=TEXT, path="/models/acme/labels", **headers):
    return client.post(path, json=body, headers=headers)


def is_cached(response):
    assert response.status_code == 200
    return response.headers["x-compute-type"] == "cache"


def test_the_cache_is_on_by_default_and_a_hit_says_so(fresh):
    first, second = post(fresh), post(fresh)

    assert first.headers["x-compute-type"] == "cpu"
    assert second.headers["x-compute-type"] == "cache"
    assert second.json() == first.json()


def test_a_hit_keeps_the_compute_time_and_sha_and_counts_no_characters(fresh):
    first, second = post(fresh), post(fresh)

    assert second.headers["x-compute-time"] == first.headers["x-compute-time"]
    assert second.headers["x-sha"] == first.headers["x-sha"] == "abc123"
    assert "x-compute-characters" in first.headers
    assert "x-compute-characters" not in second.headers
    assert second.headers["x-request-id"] != first.headers["x-request-id"]


def test_a_hit_says_what_the_first_answer_said_of_the_input(fresh):
    first, second = post(fresh, {"inputs": "long"}), post(fresh, {"inputs": "long"})

    assert is_cached(second)
    for name in ("x-truncated", "x-warnings"):
        assert second.headers[name] == first.headers[name]


def test_the_key_does_not_depend_on_the_spelling_of_the_json_nor_on_options(fresh):
    post(fresh)

    spelled = '{ "options": {"wait_for_model": true}, "parameters": {"top_k": 2}, "inputs": "so it \\u0069s"}'
    assert is_cached(fresh.post("/models/acme/labels", content=spelled))
    assert is_cached(post(fresh, {"inputs": "so it is", "top_k": 2, "leftover": 1}))
    assert is_cached(post(fresh, path="/pipeline/text-classification/labels"))


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": "so it is"},
        {"inputs": "so it is", "parameters": {"top_k": 1}},
        {"inputs": "so it was", "parameters": {"top_k": 2}},
        {"inputs": ["so it is"], "parameters": {"top_k": 2}},
    ],
)
def test_another_input_or_parameter_or_a_list_is_another_request(fresh, other):
    post(fresh)

    assert not is_cached(post(fresh, other))


def test_models_and_tasks_do_not_share_answers(served, make_client):
    client = make_client(served("a", "steady"), served("b", "steady"))
    first = post(client, path="/models/a")

    assert is_cached(post(client, path="/models/a"))
    assert post(client, path="/models/a/pipeline/feature-extraction").json() != first.json()


def test_the_output_form_is_part_of_the_key(served, make_client):
    client = make_client(served("acme/ranker", "ranker"))
    legacy, tasks = {"x-output-format": "legacy"}, {"x-output-format": "tasks"}
    first, other = post(client, path="/", **legacy), post(client, path="/", **tasks)

    assert not is_cached(other)
    assert other.json() != first.json()
    assert is_cached(again := post(client, path="/", **tasks))
    assert again.json() == other.json()
    assert again.headers["vary"] == other.headers["vary"]


@pytest.mark.parametrize("options", [{"use_cache": False}, {"use_cache": 0}, {"use_cache": "False"}])
def test_use_cache_false_neither_reads_nor_writes(fresh, options):
    assert not is_cached(post(fresh, {**TEXT, "options": options}))
    assert not is_cached(post(fresh))
    assert not is_cached(post(fresh, {**TEXT, "options": options}))


@pytest.mark.parametrize("value", ["false", "FALSE", "0"])
def test_the_header_switches_the_cache_off(fresh, value):
    post(fresh)

    assert not is_cached(post(fresh, **{"x-use-cache": value}))


def test_the_header_wins_over_the_body(fresh):
    post(fresh)

    assert is_cached(post(fresh, {**TEXT, "options": {"use_cache": False}}, **{"x-use-cache": "true"}))


def test_a_switch_that_is_neither_on_nor_off_is_told_of(fresh):
    response = post(fresh, **{"x-use-cache": "perhaps"})

    assert response.status_code == 400
    assert response.json()["error"] == "`x-use-cache`: expected true or false, given 'perhaps'"


@pytest.mark.parametrize(("text", "status"), [("invalid", 400), ("overloaded", 429), ("bundle", 500), ("nan", 500)])
def test_only_answers_of_status_200_are_kept(fresh, text, status):
    assert [post(fresh, {"inputs": text}).status_code for _ in range(2)] == [status] * 2
    assert 'outcome="hit"' not in fresh.get("/metrics").text.replace('outcome="hit"} 0', "")


def test_files_count_by_their_content_however_they_come(served, make_client, sound):
    client = make_client(served("acme/ears", "ears"))
    raw = client.post("/", content=sound)
    coded = client.post("/", json={"inputs": base64.b64encode(sound).decode()})

    assert not is_cached(raw)
    assert is_cached(coded)
    assert coded.json() == raw.json()
    assert not is_cached(client.post("/", json={"inputs": base64.b64encode(sound).decode(), "rate": 8000}))


@pytest.fixture
def sound():
    import wave
    from io import BytesIO

    pytest.importorskip("soundfile")
    content = BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(3200))
    return content.getvalue()


def test_a_long_answer_is_compressed_from_the_cache_too(served, make_client):
    client = make_client(served("acme/embedder", "steady"))
    body = {"inputs": "x" * 1000}
    path = "/models/acme/embedder/pipeline/feature-extraction"
    first = post(client, body, path, **{"accept-encoding": "gzip"})
    second = post(client, body, path, **{"accept-encoding": "gzip"})
    plain = post(client, body, path, **{"accept-encoding": "identity"})

    assert is_cached(second)
    assert is_cached(plain)
    assert second.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert first.json() == second.json() == plain.json()


def test_equal_requests_at_once_are_made_once(fresh, runner, gate):
    async def ask():
        transport = httpx.ASGITransport(fresh.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            posts = [asyncio.ensure_future(client.post("/", json="wait")) for _ in range(5)]
            await asyncio.to_thread(gate.started.acquire, timeout=5)
            await asyncio.sleep(0.1)
            gate.gate.set()
            return await asyncio.gather(*posts)

    responses = runner.run(ask())

    assert sorted(response.headers["x-compute-type"] for response in responses) == ["cache"] * 4 + ["cpu"]
    assert {response.text for response in responses} == {'[[{"label":"wait","score":0.5}]]'}
    assert not gate.started.acquire(blocking=False)


class TestWriting:
    @pytest.fixture
    def writer(self, writing, make_client):
        return make_client(writing("acme/letters", "text-generation"))

    def write(self, client, **body):
        return client.post("/", json={"inputs": "w", **body})

    def test_a_text_that_is_not_drawn_is_kept(self, writer):
        first, second = self.write(writer), self.write(writer)

        assert is_cached(second)
        assert second.json() == first.json()

    @pytest.mark.parametrize(
        "drawn", [{"do_sample": True}, *({name: 0.7} for name in SAMPLING if name != "top_k"), {"top_k": 3}]
    )
    def test_sampled_texts_without_a_seed_are_never_kept(self, writer, drawn):
        assert [is_cached(self.write(writer, parameters=drawn)) for _ in range(2)] == [False, False]

    def test_a_sampled_text_with_a_seed_is_kept(self, writer):
        parameters = {"do_sample": True, "seed": 3}

        assert [is_cached(self.write(writer, parameters=parameters)) for _ in range(2)] == [False, True]

    def test_a_text_that_a_clock_may_end_is_not_kept(self, writer):
        assert [is_cached(self.write(writer, parameters={"max_time": 60})) for _ in range(2)] == [False, False]

    def test_streams_are_not_kept(self, writer):
        first, second = (self.write(writer, stream=True) for _ in range(2))

        assert first.headers["x-compute-type"] == second.headers["x-compute-type"] == "cpu"
        assert second.text == first.text
        assert not is_cached(self.write(writer))


def test_hits_and_misses_are_in_the_metrics(fresh):
    post(fresh)
    post(fresh)
    post(fresh, **{"x-use-cache": "0"})

    text = fresh.get("/metrics").text
    of = 'model="acme/labels",task="text-classification"'
    for outcome in ("hit", "miss", "off"):
        assert f'onnxpipe_cache_requests_total{{{of},outcome="{outcome}"}} 1\n' in text
    assert "onnxpipe_cache_entries 1\n" in text
