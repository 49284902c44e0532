import pytest

from onnxpipe.errors import OnnxpipeError
from onnxpipe_bench.desk.candidates import Candidate
from onnxpipe_bench.desk.probe import measure_afresh


def test_a_fresh_process_tells_its_first_answer_and_its_memory(folder):
    found = measure_afresh(Candidate(path=str(folder), precision="fp32", threads=1), "feature-extraction", 16)
    assert 0 < found["first_answer_s"] < 60
    assert 20 < found["idle_mb"] <= found["peak_mb"]


def test_a_process_that_fails_is_told_with_its_last_line(folder):
    with pytest.raises(OnnxpipeError, match=r"fp8, 1 thread, cpu, all: a fresh process ended with 1: .*fp8"):
        measure_afresh(Candidate(path=str(folder), precision="fp8", threads=1), "feature-extraction", 16)
