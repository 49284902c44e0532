import json
import os

import pytest

from onnxpipe_server import totals
from onnxpipe_server.totals import Family, Totals, make_totals, merge


@pytest.fixture
def process(monkeypatch, tmp_path):
    """Makes the totals as a process of that number sees them."""
    monkeypatch.setattr(totals, "SHARED_MEMORY", tmp_path)
    shared = Totals()

    def of(number):
        one = Totals.__new__(Totals)
        one._folder, one._begun_by = shared._folder, os.getppid()
        one._own = shared._folder / f"{number}-1.json"
        return one

    return of


def count(value, name="requests", kind="counter", over="sum", **labels):
    return Family(name, kind, "What.", over, [(name, list(labels.items()), value)])


def numbers(families):
    return {(sample, *dict(labels).values()): value for one in merge(families) for sample, labels, value in one.samples}


def test_sums_are_by_name_and_labels_and_maxima_are_none():
    families = [
        count(1, model="a"),
        count(2, model="a"),
        count(3, model="b"),
        *(count(n, "lag", over="max") for n in (5, 4)),
    ]

    assert numbers(families) == {("requests", "a"): 3, ("requests", "b"): 3, ("lag",): 5}
    assert [one.name for one in merge(families)] == ["requests", "lag"]


def test_a_process_sees_the_others_and_not_itself(process):
    one, other = process(1), process(2)
    one.publish([count(1)])
    other.publish([count(10)])
    other.publish([count(11)])

    assert numbers(one.others()) == {("requests",): 11}
    assert numbers(other.others()) == {("requests",): 1}


def test_of_a_process_that_has_ended_only_what_it_counted_stays(process):
    one, first, second = (process(number) for number in (1, 23, 2))
    first.publish([count(10), count(7, "memory", "gauge")])
    second.publish([count(100), count(8, "memory", "gauge")])
    first.end(23)
    first.end(2)
    first.end(2)

    assert numbers(one.others()) == {("requests",): 110}


def test_a_process_is_not_counted_twice_while_it_is_being_added(process):
    one, other = process(1), process(2)
    other.publish([count(10)])
    text = other._own.read_text()
    other.end(2)
    other._own.write_text(text)  # as before it was removed

    assert numbers(one.others()) == {("requests",): 10}


def test_files_that_are_gone_or_damaged_count_nothing(process):
    one, other = process(1), process(2)
    other.publish([count(10)])
    other._own.write_text("{")

    assert one.others() == []
    one.close()
    one.publish([count(1)])
    assert one.others() == []


def test_the_last_processes_remove_the_files_when_the_one_that_began_them_was_killed(process):
    one = process(1)
    one.publish([count(1)])
    one.leave()
    assert one._own.exists()

    one._begun_by = -1
    one.leave()
    assert not one._folder.exists()


def test_samples_come_back_as_they_were(process):
    one, other = process(1), process(2)
    family = Family(
        "seconds", "histogram", "What.", "sum", [("seconds_bucket", [("le", "+Inf")], 3), ("seconds_sum", [], 0.25)]
    )
    other.publish([family])

    assert json.dumps([vars(one) for one in merge(one.others())]) == json.dumps([vars(family)])


def test_without_a_place_for_files_each_process_counts_alone(monkeypatch, caplog):
    def refuse(**_):
        raise OSError("read-only")

    monkeypatch.setattr(totals.tempfile, "mkdtemp", refuse)
    assert make_totals() is None
    assert "each process counts alone" in caplog.text
