import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.bundle import Graph
from onnxpipe.errors import Cancelled, DeadlineExceeded, Overloaded
from onnxpipe_server.submissions import Queued, Speed, Submission, choose_batch
from onnxpipe_server.tickets import Ticket, working_for
from scheduled import BAD, DOUBLED, IDS, Engine, House, doubled, row, wait_until


@pytest.fixture
def house():
    houses = []

    def build(engine, **options):
        houses.append(House(engine, **options))
        return houses[-1]

    yield build
    for one in houses:
        one.close()


@pytest.fixture
def gated(house):
    """A model whose runs wait for permits; two runs have begun, of the rows 1 and 2."""
    gate = threading.Semaphore(0)

    def build(**options):
        one = house(Engine(gate=gate), **options)
        first = one.ask(row(1))
        assert one.engine.begun.acquire(timeout=10)
        second = one.ask(row(2))
        assert one.engine.begun.acquire(timeout=10)
        one.first = (first, second)
        return one

    yield build
    gate.release(1000)


def test_where_nothing_waits_a_request_runs_at_once_in_its_own_thread(house):
    one = house(Engine())

    assert one.infer([row(3)]) == [doubled(3)]
    assert one.engine.makers == [threading.get_ident()]


def test_no_rows_need_no_run(house):
    one = house(Engine())

    assert one.infer([]) == []
    assert one.engine.batches == []


def test_rows_that_come_while_runs_are_made_share_the_next(gated):
    one = gated()
    others = [one.ask(row(number, length=number)) for number in range(3, 8)]
    one.wait_for_rows(7)
    one.engine.gate.release(3)

    assert [other.result(10) for other in others] == [[doubled(number, number)] for number in range(3, 8)]
    assert [sorted(batch) for batch in one.engine.batches] == [[1], [2], [3, 4, 5, 6, 7]]


def test_the_oldest_row_is_in_the_next_batch_however_long_it_is(gated):
    one = gated()
    long = one.ask(row(9, length=500))
    one.wait_for_rows(3)
    short = [one.ask(row(number)) for number in range(10, 20)]
    one.wait_for_rows(13)
    one.engine.gate.release(1)
    assert one.engine.begun.acquire(timeout=10)
    assert one.engine.batches[2] == [9]
    one.engine.gate.release(10)

    assert long.result(10) == [doubled(9, 500)]
    assert [future.result(10) for future in short] == [[doubled(number)] for number in range(10, 20)]
    assert len(one.engine.batches) == 4


def test_a_long_row_is_answered_in_a_flood_of_short_ones(house):
    one = house(Engine())
    flooding = threading.Event()
    floods = [one._pool.submit(_flood, one, flooding) for _ in range(16)]
    wait_until(lambda: len(one.engine.batches) > 20)

    assert one.ask(row(7, length=400)).result(10) == [doubled(7, 400)]
    flooding.set()
    for flood in floods:
        flood.result(10)


def _flood(one, stop):
    while not stop.is_set():
        assert one.infer([row(5)]) == [doubled(5)]


def test_a_request_of_many_rows_lets_others_in_between(house):
    gate = threading.Semaphore(0)
    one = house(Engine(gate=gate), max_batch_elements=12)
    many = one.ask(*[row(number) for number in range(1, 41)])
    assert one.engine.begun.acquire(timeout=10)
    second = one.ask(row(98))
    assert one.engine.begun.acquire(timeout=10)
    single = one.ask(row(99))
    one.wait_for_rows(42)
    gate.release(8)  # of the dozen runs in all

    assert single.result(10) == [doubled(99)]
    assert second.result(10) == [doubled(98)]
    assert not many.done()
    gate.release(1000)
    assert many.result(10) == [doubled(number) for number in range(1, 41)]
    assert max(map(len, one.engine.batches)) == 4


def test_rows_that_must_not_share_a_run_run_one_by_one_several_at_once(house):
    wide, narrow = Engine(gate=threading.Semaphore(0)), Engine(threads=1, gate=threading.Semaphore(0))
    one = house(wide, narrow=narrow, invariant=False)
    futures = [one.ask(row(number, length=50)) for number in range(1, 7)]
    one.wait_for_rows(6)
    wide.gate.release(10)
    narrow.gate.release(10)

    assert [future.result(10) for future in futures] == [[doubled(number, 50)] for number in range(1, 7)]
    assert all(len(batch) == 1 for batch in wide.batches + narrow.batches)
    # the first came when nobody else was there
    assert len(wide.batches) <= 2
    assert narrow.most_at_once <= 4


def test_a_long_row_alone_runs_with_all_threads_and_a_short_one_with_one(house):
    wide, narrow = Engine(), Engine(threads=1)
    one = house(wide, narrow=narrow, invariant=False)

    assert one.infer([row(1, length=100)]) == [doubled(1, 100)]
    assert one.infer([row(2, length=5)]) == [doubled(2, 5)]
    assert (wide.batches, narrow.batches) == ([[1]], [[2]])


def test_rows_of_one_request_that_run_one_by_one_keep_all_cores_busy(house):
    together = threading.Barrier(2)

    class Both(Engine):
        def run(self, feeds):
            together.wait(10)
            return super().run(feeds)

    narrow = Both(threads=1)
    one = house(Engine(), narrow=narrow, invariant=False)

    assert one.infer([row(number) for number in range(1, 9)]) == [doubled(number) for number in range(1, 9)]
    assert len(set(narrow.makers)) > 1


def test_what_a_run_raises_reaches_only_those_whose_rows_are_to_blame(gated):
    one = gated()
    good, bad, better = one.ask(row(3)), one.ask(row(BAD)), one.ask(row(4), row(5))
    one.wait_for_rows(6)
    one.engine.gate.release(100)

    assert good.result(10) == [doubled(3)]
    assert better.result(10) == [doubled(4), doubled(5)]
    with pytest.raises(ValueError, match="a bad number"):
        bad.result(10)
    assert [future.result(10) for future in one.first] == [[doubled(1)], [doubled(2)]]


def test_a_request_whose_time_ends_before_its_run_is_told_so_and_never_runs(gated):
    one = gated()
    late = one.ask(row(7), ticket=Ticket(time.monotonic() + 0.05, 0.05))

    with pytest.raises(DeadlineExceeded, match=r"timed out after 0\.05 s"):
        late.result(10)
    one.engine.gate.release(100)
    assert [future.result(10) for future in one.first] == [[doubled(1)], [doubled(2)]]
    assert one.engine.batches == [[1], [2]]


def test_the_rows_of_a_client_that_left_never_run(gated):
    one, ticket = gated(), Ticket()
    left = one.ask(row(7), ticket=ticket)
    one.wait_for_rows(3)
    ticket.cancel()

    with pytest.raises(Cancelled):
        left.result(10)
    assert one.scheduler.rows == 2
    one.engine.gate.release(100)
    assert [future.result(10) for future in one.first] == [[doubled(1)], [doubled(2)]]
    assert one.engine.batches == [[1], [2]]


def test_a_request_that_was_cancelled_before_it_came_never_runs(house):
    one, ticket = house(Engine()), Ticket()
    ticket.cancel()

    with pytest.raises(Cancelled):
        one.infer([row(1)], ticket)
    assert one.engine.batches == []


def test_more_rows_than_may_wait_are_refused_at_once(gated):
    one = gated(max_rows=4)
    waiting = one.ask(row(3), row(4))
    one.wait_for_rows(4)

    with pytest.raises(Overloaded, match="4 inputs are waiting"):
        one.infer([row(5)])
    one.engine.gate.release(100)
    assert waiting.result(10) == [doubled(3), doubled(4)]


def test_more_bytes_than_may_wait_are_refused_at_once(gated):
    one = gated(max_bytes=100)

    with pytest.raises(Overloaded, match="overloaded"):
        one.infer([row(5, length=20)])


def test_where_nothing_waits_a_request_over_the_limits_is_done(house):
    one = house(Engine(), max_rows=1, max_bytes=1)

    assert one.infer([row(1), row(2)]) == [doubled(1), doubled(2)]


def test_what_cannot_be_done_in_time_is_refused_with_the_time_to_come_back(house):
    gate = threading.Semaphore(1)
    one = house(Engine(gate=gate))
    timer = threading.Timer(0.2, gate.release)
    one.engine.gate.acquire()
    timer.start()
    assert one.infer([row(1, length=10)]) == [doubled(1, 10)]  # ten elements take 0.2 s
    busy = one.ask(row(2, length=100))
    assert one.engine.begun.acquire(timeout=10)
    assert one.engine.begun.acquire(timeout=10)

    with pytest.raises(Overloaded, match="within 1 s is not to be expected") as refused:
        one.infer([row(3)], Ticket(time.monotonic() + 1, 1))
    assert refused.value.retry_after_s > 1
    gate.release(10)
    assert busy.result(10) == [doubled(2, 100)]


def test_work_that_is_given_up_half_way_leaves_nothing_behind(house):
    one = house(Engine(), max_batch_elements=6)
    outputs = one.model.run([{"input_ids": np.array(row(number))} for number in range(10)])
    next(outputs)
    assert one.scheduler.rows == 10
    outputs.close()

    assert one.scheduler.rows == 0
    assert one.infer([row(1)]) == [doubled(1)]


def test_rows_may_be_asked_for_while_others_of_the_request_are_looked_at(house):
    one, ticket = house(Engine(), max_batch_elements=6), Ticket()

    with working_for(ticket):
        for index, outputs in one.model.run([{"input_ids": np.array(row(number))} for number in range(6)]):
            again = one.infer([outputs["doubled"]], ticket)
            assert again == [doubled(2 * index)]
    assert ticket.rows == 12


def test_a_ticket_says_what_the_rows_of_its_request_shared(gated):
    one, ticket = gated(), Ticket()
    asked = [one.ask(row(3, length=4), ticket=ticket), one.ask(row(4, length=8))]
    one.wait_for_rows(4)
    one.engine.gate.release(100)

    for future in asked:
        future.result(10)
    assert (ticket.rows, ticket.batch_rows, ticket.elements, ticket.padding) == (1, 2, 16, 4)
    assert ticket.padded_share == 0.25
    assert ticket.infer_ms >= ticket.run_ms > 0


def test_many_threads_that_fail_leave_and_come_again_all_get_their_own(house):
    engine = Engine()
    one = house(engine, max_batch_elements=64)
    single = house(Engine(), narrow=Engine(threads=1), invariant=False)

    def client(seed):
        draw = random.Random(seed)
        for _ in range(60):
            rows = [row(draw.randint(1, 500), length=draw.randint(1, 40)) for _ in range(draw.choice((1, 1, 1, 2, 9)))]
            kind, target = draw.randrange(8), draw.choice((one, single))
            ticket = Ticket()
            if kind == 0:
                rows.insert(draw.randrange(len(rows) + 1), row(BAD))
                with pytest.raises(ValueError, match="a bad number"):
                    target.infer(rows)
                continue
            if kind == 1:
                ticket = Ticket(time.monotonic() + draw.uniform(0, 0.002), 0.001)
            if kind == 2:
                threading.Timer(draw.uniform(0, 0.002), ticket.cancel).start()
            try:
                assert target.infer(rows, ticket) == [[2 * number for number in given] for given in rows]
            except (DeadlineExceeded, Overloaded):
                assert kind == 1
            except Cancelled:
                assert kind == 2

    with ThreadPoolExecutor(24) as pool:
        for future in [pool.submit(client, seed) for seed in range(24)]:
            future.result(60)
    # requests did share runs
    assert max(map(len, engine.batches)) > 1


def queued(sizes, shapes=()):
    graph = Graph(inputs=(IDS,), outputs=(DOUBLED,))
    owner = Submission(Ticket(), graph, [], threading.Lock())
    shapes = shapes or [()] * len(sizes)
    return [
        Queued(owner, number, {}, size, shape) for number, (size, shape) in enumerate(zip(sizes, shapes, strict=True))
    ]


def chosen(sizes, limit, shapes=()):
    return [one.index for one in choose_batch(queued(sizes, shapes), limit)]


def test_a_batch_is_the_first_row_and_those_nearest_in_length():
    assert chosen([100, 20, 96, 104, 110, 300], 330) == [0, 2, 3]


def test_a_row_is_padded_only_as_long_as_that_costs_less_than_a_run_of_its_own():
    assert chosen([100, 117, 83], 10_000) == [0]
    assert chosen([100, 116, 84], 10_000) == [0, 1]
    assert chosen([1600, 1500, 1490], 10_000) == [0, 1]


def test_rows_of_different_fixed_shapes_do_not_meet():
    assert chosen([4, 4, 4], 100, [((2, 2),), ((4, 1),), ((2, 2),)]) == [0, 2]


@given(st.lists(st.integers(1, 600), min_size=1, max_size=80), st.integers(1, 3000))
def test_a_batch_holds_the_first_row_and_keeps_the_limit(sizes, limit):
    batch = [sizes[index] for index in chosen(sizes, limit)]

    assert batch[0] == sizes[0]
    assert len(batch) == 1 or max(batch) * len(batch) <= limit
    assert max(batch) - min(batch) <= max(16, max(batch) / 16)


def test_speed_is_that_of_runs_side_by_side(monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 4.0, 10.0, 11.0])
    monkeypatch.setattr("onnxpipe_server.submissions.time.perf_counter", lambda: next(clock))
    speed = Speed()
    first, second = speed.begin(), speed.begin()

    assert speed.seconds(100) == 0
    assert speed.end(first, 10) == 2.0
    assert speed.end(second, 10) == 3.0
    # twenty in four seconds, the last ones for a bit more
    assert speed.seconds(5) == pytest.approx(1, rel=0.01)
    speed.end(speed.begin(), 5)  # the time in which nothing ran does not count
    assert speed.seconds(5) == pytest.approx(1, rel=0.01)
