import dataclasses
import threading
import time

import pytest

from onnxpipe.errors import Cancelled, DeadlineExceeded, InvalidInput, OnnxpipeError
from onnxpipe.records import Record, parameter
from onnxpipe_server.cache import Answers, Flight, Kept, make_key
from onnxpipe_server.tickets import Ticket, working_for


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameters(Record):
    top_k: int | None = parameter(None, description="How many.")


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def answer(content=b"[]"):
    return lambda: Kept(content, {"x-sha": "abc"})


def in_threads(*works):
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    return threads


class Leader:
    """Makes an answer in a thread when it is told to, or fails."""

    def __init__(self, answers, outcome=None, ticket=None):
        self.begun, self.go, self.raised = threading.Event(), threading.Event(), None
        self._answers, self._outcome, self._ticket = answers, outcome, ticket or Ticket()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self.begun.wait(5)

    def finish(self):
        self.go.set()
        self._thread.join(5)

    def _run(self):
        try:
            with working_for(self._ticket):
                self._answers.answer(b"key", self._make)
        except OnnxpipeError as error:
            self.raised = error

    def _make(self):
        self.begun.set()
        self.go.wait(5)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome or Kept(b"[]", {})


def wait_for_joining(answers, count=1):
    """Until that many wait for the flight: their conditions have as many waiters."""
    (flight,) = answers._flights.values()
    for _ in range(500):
        if len(flight._changed._waiters) >= count:
            return
        time.sleep(0.005)
    pytest.fail("nobody waits")


def test_an_answer_is_made_once():
    answers = Answers(10_000, 60)

    first, cached = answers.answer(b"key", answer(b"[1]"))
    again, cached_again = answers.answer(b"key", lambda: pytest.fail("it was there"))

    assert (cached, cached_again) == (False, True)
    assert first == again == Kept(b"[1]", {"x-sha": "abc"})
    assert (answers.misses, answers.hits) == (1, 1)


def test_an_answer_grows_old():
    clock = Clock()
    answers = Answers(10_000, 60, clock)
    answers.answer(b"key", answer())

    clock.now = 59.9
    assert answers.answer(b"key", answer())[1]
    clock.now = 60.0
    assert not answers.answer(b"key", answer())[1]
    assert len(answers) == 1


def test_the_longest_unused_goes_when_there_is_no_room():
    answers = Answers(8_000, 60)
    for name in (b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"):
        answers.answer(name, answer(b"x" * 390))  # 990 with what an entry takes beside it
    answers.answer(b"a", answer())

    answers.answer(b"i", answer(b"x" * 390))

    assert answers.answer(b"a", answer())[1]
    assert not answers.answer(b"b", answer())[1]
    assert answers.bytes <= 8_000
    assert answers.evicted > 0


def test_an_answer_that_would_drive_out_all_others_is_not_kept():
    answers = Answers(8_000, 60)

    answers.answer(b"key", answer(b"x" * 1_001))

    assert not len(answers)
    assert answers.bytes == 0


def test_a_cache_of_no_bytes_keeps_nothing():
    answers = Answers(0, 60)
    answers.answer(b"key", answer())

    assert not answers.answer(b"key", answer())[1]


def test_equal_requests_share_the_one_that_is_under_way():
    answers, found = Answers(10_000, 60), []
    leader = Leader(answers, Kept(b"[1]", {}))
    others = in_threads(*[lambda: found.append(answers.answer(b"key", lambda: pytest.fail("shared")))] * 3)
    wait_for_joining(answers, 3)

    leader.finish()
    for other in others:
        other.join(5)

    assert found == [(Kept(b"[1]", {}), True)] * 3
    assert (answers.misses, answers.joined) == (1, 3)


@pytest.mark.parametrize("error", [Cancelled("gone"), DeadlineExceeded("late")])
def test_when_the_first_one_leaves_the_next_takes_over(error):
    answers, found = Answers(10_000, 60), []
    leader = Leader(answers, error)
    (other,) = in_threads(lambda: found.append(answers.answer(b"key", answer(b"[2]"))))
    wait_for_joining(answers)

    leader.finish()
    other.join(5)

    assert leader.raised is error
    assert found == [(Kept(b"[2]", {"x-sha": "abc"}), False)]


def test_what_is_wrong_with_one_is_wrong_with_all_and_is_not_kept():
    answers, raised = Answers(10_000, 60), []

    def ask():
        try:
            answers.answer(b"key", lambda: pytest.fail("shared"))
        except InvalidInput as error:
            raised.append(error)

    leader = Leader(answers, InvalidInput("no such word"))
    (other,) = in_threads(ask)
    wait_for_joining(answers)
    leader.finish()
    other.join(5)

    assert raised == [leader.raised]
    assert not answers.answer(b"key", answer())[1]


def test_one_that_waits_for_another_may_leave():
    answers, raised = Answers(10_000, 60), []
    ticket = Ticket()

    def ask():
        try:
            with working_for(ticket):
                answers.answer(b"key", answer())
        except Cancelled as error:
            raised.append(error)

    leader = Leader(answers)
    (other,) = in_threads(ask)
    wait_for_joining(answers)
    ticket.cancel()
    other.join(5)

    assert len(raised) == 1
    leader.finish()
    assert answers.answer(b"key", answer())[1]


def test_one_that_waits_for_another_has_a_deadline_of_its_own():
    answers = Answers(10_000, 60)
    leader = Leader(answers)

    with working_for(Ticket(time.monotonic() + 0.01, 0.01)), pytest.raises(DeadlineExceeded):
        answers.answer(b"key", answer())
    leader.finish()


def test_answers_made_in_steps_are_shared_too():
    def make():
        yield None
        return Kept(b"[3]", {})

    answers = Answers(10_000, 60)
    first, second = (
        answers.answer_in_steps(b"key", make),
        answers.answer_in_steps(b"key", lambda: pytest.fail("shared")),
    )
    assert next(first) is None
    assert next(second) is None  # a moment of waiting

    with pytest.raises(StopIteration) as made:
        next(first)
    with pytest.raises(StopIteration) as shared:
        next(second)
    assert made.value.value == (Kept(b"[3]", {}), False)
    assert shared.value.value == (Kept(b"[3]", {}), True)


def test_steps_that_are_given_up_are_left_to_the_next():
    def make():
        yield None
        return Kept(b"[3]", {})

    answers = Answers(10_000, 60)
    first, second = answers.answer_in_steps(b"key", make), answers.answer_in_steps(b"key", make)
    next(first)
    next(second)

    first.close()

    results = []

    def take_over():
        results.append((yield from second))

    list(take_over())
    assert results == [(Kept(b"[3]", {}), False)]


def test_a_flight_that_lands_leaves_nothing_behind():
    answers = Answers(10_000, 60)
    found, leads = answers.find(b"key")
    assert isinstance(found, Flight)
    assert leads

    with found:
        pass

    assert answers.find(b"key")[1]


class TestKeys:
    def test_equal_parts_have_one_key(self):
        one = make_key("digest", "int8", ["so"], Parameters(top_k=2))

        assert one == make_key("digest", "int8", ("so",), Parameters(top_k=2))

    @pytest.mark.parametrize(
        "other",
        [
            ("other", "int8", ["so"], Parameters()),
            ("digest", "fp32", ["so"], Parameters()),
            ("digest", "int8", ["so "], Parameters()),
            ("digest", "int8", ["so"], Parameters(top_k=1)),
            ("digest", "int8", ["s", "o"], Parameters()),
            ("digest", "int8", b"so", Parameters()),
        ],
    )
    def test_another_part_makes_another_key(self, other):
        assert make_key("digest", "int8", ["so"], Parameters()) != make_key(*other)

    def test_the_order_in_which_fields_are_spelled_makes_none(self):
        assert make_key({"a": 1, "b": 2}) == make_key({"b": 2, "a": 1})

    def test_files_count_by_their_content(self):
        assert make_key([b"one", b"two"]) == make_key([b"one", bytearray(b"two")])
        assert make_key([b"one", b"two"]) != make_key([b"one", b"twO"])

    def test_what_cannot_be_told_apart_has_no_key(self):
        assert make_key(object()) is None
