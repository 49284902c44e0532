import asyncio
import contextvars
import threading

import pytest

from onnxpipe.errors import Cancelled
from onnxpipe_server.threads import Place, Threads


def test_work_runs_in_other_threads_and_in_the_callers_context(runner):
    name = contextvars.ContextVar("name")

    async def work():
        name.set("mine")
        return await Threads(2).run(lambda: (threading.current_thread().name, name.get()))

    assert runner.run(work()) == ("onnxpipe-worker", "mine")


@pytest.mark.parametrize("raised", [ValueError("no"), KeyboardInterrupt()])
def test_what_the_work_raises_reaches_who_waits(runner, raised):
    def fail():
        raise raised

    async def work():
        threads = Threads(1)
        with pytest.raises(type(raised)):
            await threads.run(fail)
        return threads.running

    assert runner.run(work()) == 0


def test_a_stop_iteration_does_not_leave_its_caller_waiting(runner):
    with pytest.raises(RuntimeError, match="StopIteration"):
        runner.run(Threads(1).run(lambda: next(iter(()))))


def test_no_more_threads_than_allowed_work_and_those_who_wait_come_in_their_order(runner):
    begun, order = threading.Event(), []

    async def crowd():
        threads = Threads(2)
        slow = [asyncio.create_task(threads.run(lambda: begun.wait(10))) for _ in range(2)]
        others = [asyncio.create_task(threads.run(lambda number=number: order.append(number))) for number in range(20)]
        await asyncio.sleep(0.02)
        seen = threads.running, threads.waiting, list(order)
        begun.set()
        await asyncio.gather(*slow, *others)
        return seen, threads.running, threads.waiting

    assert runner.run(crowd()) == ((2, 20, []), 0, 0)
    assert sorted(order) == list(range(20))


def test_threads_are_begun_as_they_are_needed(runner):
    def begun():
        return sum(thread.name == "onnxpipe-worker" for thread in threading.enumerate())

    async def one_by_one():
        before, threads = begun(), Threads(8)
        for _ in range(5):
            await threads.run(lambda: None)
        return begun() - before

    assert runner.run(one_by_one()) == 1


def test_a_place_that_is_given_up_frees_it_for_others_and_its_work_never_begins(runner):
    release, worked = threading.Event(), []

    async def crowd():
        threads, places = Threads(1), [Place(), Place()]
        slow = asyncio.create_task(threads.run(lambda: release.wait(10)))
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(threads.run(lambda: worked.append(1), place)) for place in places]
        await asyncio.sleep(0)
        places[0].give_up()
        with pytest.raises(Cancelled, match="before its request was begun"):
            await waiting[0]
        left = threads.waiting
        release.set()
        await asyncio.gather(slow, waiting[1])
        places[1].give_up()  # too late to matter
        return left, threads.running

    assert runner.run(crowd()) == (1, 0)
    assert worked == [1]


def test_a_place_given_up_before_it_is_taken_is_no_place(runner):
    async def late():
        threads, place = Threads(1), Place()
        release = threading.Event()
        slow = asyncio.create_task(threads.run(lambda: release.wait(10)))
        await asyncio.sleep(0)
        place.give_up()
        with pytest.raises(Cancelled):
            await threads.run(lambda: None, place)
        release.set()
        await slow
        return threads.running, threads.waiting

    assert runner.run(late()) == (0, 0)


@pytest.mark.parametrize("waits", [True, False])
def test_a_caller_that_is_cancelled_keeps_no_thread(runner, waits):
    release = threading.Event()

    async def cancel():
        threads = Threads(1)
        slow = asyncio.create_task(threads.run(lambda: release.wait(10)))
        await asyncio.sleep(0)
        victim = asyncio.create_task(threads.run(lambda: None)) if waits else slow
        await asyncio.sleep(0.01)
        victim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await victim
        release.set()
        return await asyncio.wait_for(threads.run(lambda: "next"), 10)

    assert runner.run(cancel()) == "next"


def test_a_turn_that_nobody_takes_goes_to_the_next(runner):
    release = threading.Event()

    async def race():
        threads = Threads(1)
        slow = asyncio.create_task(threads.run(lambda: release.wait(10)))
        await asyncio.sleep(0)
        first, second = (asyncio.create_task(threads.run(lambda: "done")) for _ in range(2))
        await asyncio.sleep(0)
        # told to go on and cancelled in the same moment
        threads._leave()
        first.cancel()
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        release.set()
        await slow
        return outcomes

    first, second = runner.run(race())
    assert isinstance(first, asyncio.CancelledError)
    assert second == "done"
