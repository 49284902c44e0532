import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxpipe.errors import InvalidInput
from onnxpipe.generation.stopping import StopStrings, read_stops


def stream(stops, pieces, *, include):
    """The pieces that come out, and the stop string found."""
    matcher = StopStrings(stops, include=include)
    done = []
    for piece in pieces:
        done.append(matcher.add(piece))
        if matcher.found is not None:
            return done, matcher.found
    return [*done, matcher.finish()], None


def cut(stops, text, *, include):
    """The same by looking at each beginning of the text."""
    for end in range(len(text) + 1):
        if ended := sorted((stop for stop in stops if text[:end].endswith(stop)), key=len):
            return text[: end if include else end - len(ended[-1])], ended[-1]
    return text, None


@pytest.mark.parametrize("include", [True, False])
def test_a_text_ends_with_the_first_stop_string_however_it_is_cut_into_pieces(include):
    letters = st.text("ab\nß", max_size=6)

    @given(st.lists(st.text("ab\nß", min_size=1, max_size=5), max_size=4, unique=True), st.lists(letters, max_size=12))
    def check(stops, pieces):
        done, found = stream(stops, pieces, include=include)
        assert ("".join(done), found) == cut(stops, "".join(pieces), include=include)

    check()


def test_a_stop_string_may_begin_in_one_token_and_end_inside_of_another():
    pieces = ["Hello", " wor", "ld\nUs", "er", ": hi", "never"]
    assert stream(["\nUser:"], pieces, include=True) == (["Hello", " wor", "ld\nUs", "er", ":"], "\nUser:")
    assert stream(["\nUser:"], pieces, include=False) == (["Hello", " wor", "ld", "", ""], "\nUser:")


def test_only_what_may_become_a_stop_string_is_held_back_and_comes_when_it_does_not():
    assert stream(["END"], ["a E", "N", "x END"], include=False) == (["a ", "", "ENx "], "END")
    assert stream(["END"], ["a E", "N"], include=False) == (["a ", "", "EN"], None)
    assert stream(["END"], ["a E", "N"], include=True) == (["a E", "N", ""], None)


def test_a_stop_string_that_overlaps_with_itself_is_found():
    assert stream(["aab"], ["a", "a", "a", "b", "c"], include=False) == (["", "", "a", ""], "aab")
    assert stream(["ababc"], ["abab", "abc"], include=True) == (["abab", "abc"], "ababc")


def test_of_several_the_one_that_ends_first_wins_and_of_equals_the_longest():
    assert stream(["lower", "low", "slow"], ["a slower"], include=True) == (["a slow"], "slow")
    assert stream(["lower", "low", "slow"], ["a s", "lower"], include=False) == (["a ", ""], "slow")


def test_without_stop_strings_the_text_passes():
    assert stream([], ["a", "b"], include=False) == (["a", "b", ""], None)


def test_a_stop_string_that_pending_text_completes_is_found_at_once():
    matcher = StopStrings(["\n\n"], include=False)
    assert (matcher.add("a", "\n"), matcher.found) == ("a", None)
    assert (matcher.add("\n", "x"), matcher.found) == ("", None)  # what was pending came out otherwise
    assert (matcher.add("", "\n"), matcher.found) == ("", "\n\n")
    matcher = StopStrings(["\n"], include=True)
    assert (matcher.add("a", "\nrest"), matcher.found) == ("a\n", "\n")


def test_the_cost_of_a_piece_grows_neither_with_the_text_nor_with_the_stop_string():
    """The worst case of a naive search: everything is nearly a match."""
    matcher = StopStrings(["a" * 999 + "b"], include=False)
    start = time.perf_counter()
    length = sum(len(matcher.add("a" * 5)) for _ in range(20_000))
    assert length == 100_000 - 999
    assert time.perf_counter() - start < 10  # a tenth of a second; a naive search takes minutes


def test_stop_strings_are_read_from_one_string_or_a_list():
    assert read_stops(None) == ()
    assert read_stops("a") == ("a",)
    assert read_stops(["a", "b", "a"]) == ("a", "b")


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (["1", "2", "3", "4", "5"], "up to 4 stop sequences. Given: 5"),
        ("", "at least one character"),
        (["a", "b" * 1001], "at most 1000 characters, given one of 1001"),
    ],
)
def test_too_many_empty_and_overlong_stop_strings_are_refused(stop, message):
    with pytest.raises(InvalidInput, match=message):
        read_stops(stop)
