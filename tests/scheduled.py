"""Models whose runs a test holds back, behind a scheduler, and requests to them in threads of their own."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from onnxpipe.bundle import Bundle, FileEntry, Graph, Manifest, Source, Tensor, Variant
from onnxpipe.pipeline import Model
from onnxpipe_server.scheduler import Scheduler
from onnxpipe_server.tickets import Ticket, working_for

IDS = Tensor(name="input_ids", dtype="int64", shape=("batch", "sequence"), pad=0)
DOUBLED = Tensor(name="doubled", dtype="int64", shape=("batch", "sequence"))
BAD = 666
# enough for a thread that has brought its rows to wait for them
MOMENT = 0.002


class Engine:
    """Doubles its input; a batch with the bad number fails. With a gate each run waits for a permit of it."""

    device = "cpu"

    def __init__(self, threads=2, gate=None):
        self.threads = threads
        self.gate = gate
        self.begun = threading.Semaphore(0)
        self.batches, self.makers = [], []
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def run(self, feeds):
        ids = feeds["input_ids"]
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.batches.append([int(row[0]) for row in ids])
            self.makers.append(threading.get_ident())
        self.begun.release()
        try:
            if self.gate:
                assert self.gate.acquire(timeout=10)
            if (ids == BAD).any():
                raise ValueError("a bad number")
            return {"doubled": 2 * ids}
        finally:
            with self._lock:
                self.at_once -= 1


class House:
    """A model with a scheduler, and requests to it in threads of their own."""

    def __init__(self, engine, *, narrow=None, invariant=True, **limits):
        self.engine, self.scheduler = engine, Scheduler(**limits)
        variant = Variant(files={"model": "m.onnx"}, batch_invariant=invariant, measured={}, tolerance={})
        manifest = Manifest(
            format_version=1,
            id="a",
            task="feature-extraction",
            source=Source(model="a"),
            graphs={"model": Graph(inputs=(IDS,), outputs=(DOUBLED,))},
            variants={"fp32": variant},
            golden=(),
            tools={},
            files={"m.onnx": FileEntry(size_bytes=1, sha256="0" * 64)},
        )
        runner = self.scheduler.runner({"model": narrow} if narrow else None)
        self.model = Model(Bundle(Path("b"), manifest, "d" * 64), "fp32", variant, {"model": engine}, runner)
        self._pool = ThreadPoolExecutor(64)

    def infer(self, rows, ticket=None):
        """The outputs of rows, in order, in this thread."""
        with working_for(ticket or Ticket()):
            outputs = dict(self.model.run([{"input_ids": np.array(row)} for row in rows]))
        return [outputs[index]["doubled"].tolist() for index in range(len(rows))]

    def ask(self, *rows, ticket=None):
        """The same, in another thread; a future."""
        return self._pool.submit(self.infer, rows, ticket)

    def wait_for_rows(self, count):
        """Until so many rows are let in."""
        wait_until(lambda: self.scheduler.rows == count)
        time.sleep(MOMENT)  # and their threads wait

    def close(self):
        self._pool.shutdown()
        assert (self.scheduler.rows, self.scheduler.bytes) == (0, 0)
        for queue in self.model.runner._queues.values():
            assert not queue._waiting
            # a helping thread may be about to leave
            wait_until(lambda queue=queue: queue._runs == 0)
            assert queue._elements == 0


def wait_until(holds):
    stop = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < stop
        time.sleep(0.001)


def row(number, length=3):
    return [number] * length


def doubled(number, length=3):
    return [2 * number] * length
