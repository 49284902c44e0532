from onnxpipe_bench.desk.state import State


def test_figures_are_found_again_by_the_same_question(tmp_path, cache):
    state = State({"bundle": "a", "lengths": [16]})
    assert not state.goes_on
    state.set("quality", {"value": 0.5})
    assert state.file.is_relative_to(cache)
    again = State({"lengths": [16], "bundle": "a"})
    assert again.goes_on
    assert again.get("quality") == {"value": 0.5}
    assert State({"bundle": "b", "lengths": [16]}).get("quality") is None


def test_what_is_done_with_is_forgotten(cache):
    state = State({})
    state.set("a", 1)
    state.forget()
    state.forget()
    assert not State({}).goes_on


def test_a_damaged_file_is_no_state(cache):
    state = State({})
    state.set("a", 1)
    state.file.write_bytes(b"{")
    assert not State({}).goes_on


def test_nothing_is_kept_where_nothing_can_be_written(cache):
    cache.write_text("a file where the folder would be")
    state = State({})
    state.set("a", 1)
    assert state.get("a") == 1
    assert not State({}).goes_on
