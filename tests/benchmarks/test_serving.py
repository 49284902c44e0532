import sys
import time
from pathlib import Path

import pytest

from onnxpipe_bench.serving import Running, free_port

# a server with a child that ends by itself only much later, and whose threads never rest
BUSY = """
import http.server, subprocess, sys, threading
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open(sys.argv[2], "w").write(str(child.pid))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_): ...
def spin():
    while True:
        pass
threading.Thread(target=spin, daemon=True).start()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture
def busy(tmp_path):
    port = free_port()
    with Running("-c", BUSY, str(port), str(tmp_path / "child"), program=[sys.executable], port=port) as running:
        yield running


def is_there(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_no_process_of_a_server_outlives_the_block(tmp_path):
    port = free_port()
    with Running("-c", BUSY, str(port), str(tmp_path / "child"), program=[sys.executable], port=port) as running:
        child = int((tmp_path / "child").read_text())
        assert is_there(child)
        assert running.port == port
    for _ in range(100):
        if not is_there(child):
            break
        time.sleep(0.02)
    assert not is_there(child)


def test_a_paused_server_uses_no_cpu_and_goes_on_when_awake(busy):
    busy.pause()
    time.sleep(0.05)
    paused = busy.cpu_s
    time.sleep(0.2)
    assert busy.cpu_s == paused
    with busy.awake():
        time.sleep(0.3)
    assert busy.cpu_s > paused


def test_memory_is_that_of_all_processes(busy, tmp_path):
    child = int((tmp_path / "child").read_text())
    assert child in busy.processes()
    assert len(busy.processes()) == 2
    assert busy.memory_mb > 5


def test_a_server_that_ends_before_it_listens_is_an_error():
    with pytest.raises(ChildProcessError, match="ended before it listened"):
        Running("-c", "print('no')", program=[sys.executable])
    with pytest.raises(ChildProcessError, match="not ready within 120 s, or ended before: there is no hub"):
        Running("-c", "raise SystemExit('there is no hub')", program=[sys.executable], port=free_port())
