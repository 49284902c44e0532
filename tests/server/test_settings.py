import pytest

from onnxpipe.errors import InvalidInput
from onnxpipe_server.settings import Settings


@pytest.mark.parametrize("field", ["max_body_bytes", "max_running"])
def test_a_limit_of_zero_is_refused(field):
    with pytest.raises(InvalidInput, match=f"`{field}`: expected a number >= 1, given 0"):
        Settings(**{field: 0})


def test_nobody_may_have_to_wait():
    assert Settings(max_waiting=0).max_waiting == 0


def test_a_request_is_held_for_30_seconds_and_a_text_may_have_2_megabytes_where_nobody_says_otherwise():
    assert (Settings().load_wait, Settings().max_body_bytes) == (30, 2_000_000)
