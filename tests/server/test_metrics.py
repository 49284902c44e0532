import asyncio
import copy
import re
import time

import pytest

from onnxpipe_server import totals
from onnxpipe_server.explain import Account
from onnxpipe_server.metrics import Counter, Histogram, LoopLag, Metrics, _sample, read_queue
from onnxpipe_server.scheduler import Scheduler

_SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+')


@pytest.fixture
def fresh(served, make_client):
    """A server of one model that nobody has asked yet."""
    return make_client(served("acme/labels", "labels"))


def scrape(client):
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return response.text


OF = 'model="acme/labels",task="text-classification"'


def test_the_text_is_what_prometheus_reads(fresh):
    fresh.post("/", json="so it is")
    text = scrape(fresh)

    assert text.endswith("\n")
    families = re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", text, re.MULTILINE)
    assert len({name for name, _ in families}) == len(families)
    for line in text.splitlines():
        assert line.startswith("# ") or _SAMPLE.fullmatch(line), line


def test_requests_are_counted_by_model_task_and_status(fresh):
    fresh.post("/", json="so it is")
    fresh.post("/", json={"inputs": "so", "parameters": {"top_k": 0}})
    fresh.get("/nowhere")
    text = scrape(fresh)

    assert f'onnxpipe_requests_total{{{OF},status="200"}} 1\n' in text
    assert 'onnxpipe_requests_total{model="",task="",status="400"} 1\n' in text
    assert 'onnxpipe_errors_total{model="",task="",error_type="validation"} 1\n' in text
    assert 'onnxpipe_errors_total{model="",task="",error_type="not_found"} 1\n' in text


def test_errors_of_a_model_are_counted_by_kind(fresh):
    for text in ("overloaded", "crash", "late"):
        fresh.post("/", json=text)
    told = scrape(fresh)

    for kind in ("overloaded", "internal", "timeout"):
        assert f'onnxpipe_errors_total{{{OF},error_type="{kind}"}} 1\n' in told


def test_what_clients_send_makes_no_series(fresh):
    for number in range(5):
        fresh.get(f"/models/unknown{number}")
        fresh.post(f"/models/unknown{number}", json="so")
        fresh.request("BREW", f"/{number}", headers={"x-request-id": f"id{number}"})

    assert "unknown" not in scrape(fresh)
    assert scrape(fresh).count("onnxpipe_requests_total{") <= 4


def test_stages_tokens_and_latency_are_there(fresh):
    fresh.post("/", json="so it is")
    text = scrape(fresh)

    for stage in ("queue", "preprocess", "inference", "postprocess"):
        assert f'onnxpipe_stage_seconds_count{{{OF},stage="{stage}"}} 1\n' in text
    assert f'onnxpipe_request_seconds_bucket{{{OF},le="+Inf"}} 1\n' in text
    assert f'onnxpipe_tokens_total{{{OF},direction="read"}} 8\n' in text


def test_tokens_that_are_written_are_counted(writing, make_client):
    client = make_client(writing("acme/letters", "text-generation"))
    client.post("/generate_stream", json={"inputs": "w"})
    client.post("/v1/completions", json={"prompt": "w"})

    of = 'model="acme/letters",task="text-generation"'
    assert f'onnxpipe_tokens_total{{{of},direction="written"}} 8\n' in scrape(client)


def test_memory_queue_and_the_event_loop_are_there(fresh):
    text = scrape(fresh)

    assert int(re.search(r"^process_resident_memory_bytes (\d+)$", text, re.MULTILINE)[1]) > 10_000_000
    for name in ("requests_running", "requests_waiting"):
        assert f'onnxpipe_{name}{{workers="requests"}} 0\n' in text
    assert re.search(r"^onnxpipe_loop_lag_seconds \S+$", text, re.MULTILINE)


def test_what_waits_for_models_is_there():
    scheduler = Scheduler()
    scheduler.rows, scheduler.bytes = 3, 120

    text = Metrics([read_queue(scheduler)]).text()
    assert "onnxpipe_queue_rows 3\n" in text
    assert "onnxpipe_queue_bytes 120\n" in text


def test_batches_and_their_padding_are_counted():
    metrics = Metrics()
    account = Account(model="m", task="t", batch_rows=3, elements=30, padding=6)
    metrics.note(account, 200)
    metrics.note(account, 200)

    text = metrics.text()
    assert 'onnxpipe_batch_rows_bucket{model="m",task="t",le="2"} 0\n' in text
    assert 'onnxpipe_batch_rows_bucket{model="m",task="t",le="4"} 2\n' in text
    assert 'onnxpipe_batch_elements_total{model="m",task="t"} 60\n' in text
    assert 'onnxpipe_batch_padding_total{model="m",task="t"} 12\n' in text


def test_a_label_is_escaped():
    counter = Counter("name", "What.", "label")
    counter.add(2, 'a"b\\c\nd')

    assert [_sample(*sample) for sample in counter.samples()] == ['name{label="a\\"b\\\\c\\nd"} 2\n']


def test_a_bound_counts_what_is_equal_to_it():
    histogram = Histogram("name", "What.", (1, 2))
    for value in (0.5, 1, 2, 3):
        histogram.see(value)

    assert [_sample(*sample) for sample in histogram.samples()] == [
        'name_bucket{le="1"} 2\n',
        'name_bucket{le="2"} 3\n',
        'name_bucket{le="+Inf"} 4\n',
        "name_sum 6.5\n",
        "name_count 4\n",
    ]


def test_an_event_loop_that_was_blocked_is_seen():
    async def block():
        lag.begin()
        await asyncio.sleep(0.4)
        time.sleep(0.3)
        await asyncio.sleep(0.01)

    lag = LoopLag()
    asyncio.run(block())

    (_, _, last), (_, _, worst) = lag.readings()
    assert worst[0][1] >= 0.15
    assert last[0][1] == worst[0][1]
    lag.forget()
    (_, _, again) = list(lag.readings())[1]
    assert again[0][1] == 0.0


def test_processes_tell_of_what_they_have_counted_together(monkeypatch, tmp_path):
    monkeypatch.setattr(totals, "SHARED_MEMORY", tmp_path)
    folder = totals.Totals()
    one, other = (Metrics(totals=copy.copy(folder)) for _ in range(2))
    one.note(Account(model="m", task="t", batch_rows=3), 200)
    other.note(Account(model="m", task="t", batch_rows=1), 200)
    other.note(Account(model="n", task="t"), 404)
    other.publish()

    text = one.text()
    assert 'onnxpipe_requests_total{model="m",task="t",status="200"} 2\n' in text
    assert 'onnxpipe_requests_total{model="n",task="t",status="404"} 1\n' in text
    assert 'onnxpipe_batch_rows_bucket{model="m",task="t",le="2"} 1\n' in text
    assert 'onnxpipe_batch_rows_bucket{model="m",task="t",le="+Inf"} 2\n' in text
    assert "onnxpipe_processes 2\n" in text
    assert re.search(r'^onnxpipe_info{version="[^"]+"} 1$', text, re.MULTILINE)
    assert text.count("# TYPE onnxpipe_requests_total counter\n") == 1


def test_what_is_new_is_told_to_the_other_processes_with_the_next_beat(monkeypatch, tmp_path):
    monkeypatch.setattr(totals, "SHARED_MEMORY", tmp_path)
    folder = totals.Totals()
    one, other = (Metrics(totals=copy.copy(folder)) for _ in range(2))

    async def serve():
        other.lag.begin()
        other.note(Account(model="m", task="t"), 200)
        while 'status="200"} 1' not in (text := one.text()):
            await asyncio.sleep(0.05)
        return text

    assert 'onnxpipe_requests_total{model="m",task="t",status="200"} 1\n' in asyncio.run(asyncio.wait_for(serve(), 20))
