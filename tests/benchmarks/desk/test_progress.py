import io

from onnxpipe_bench.desk.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_how_far_it_is_and_what_comes():
    stream = Terminal()
    progress = Progress(10, stream)
    progress.begin("latency")
    progress.done(5)
    progress.begin("throughput")
    progress.end()
    shown = stream.getvalue()
    assert "  0%" in shown
    assert " 50%" in shown
    assert shown.index("latency") < shown.index("throughput")
    assert shown.endswith("\r\x1b[K")


def test_nothing_is_written_where_nobody_watches():
    stream = io.StringIO()
    progress = Progress(10, stream)
    progress.begin("latency")
    progress.end()
    assert stream.getvalue() == ""


def test_the_time_left_is_told_at_the_pace_so_far(monkeypatch):
    clock = iter([0.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    progress = Progress(30, io.StringIO())
    progress.done(10)  # which took twice as long
    assert progress.left_s == 40
