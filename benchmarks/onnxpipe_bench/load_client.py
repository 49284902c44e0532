"""Requests to a server, as many at once as asked for, and how long each answer took.

A process of its own (`python -m onnxpipe_bench.load_client`, a plan in JSON on standard input), one thread, plain
sockets: it takes some 30 microseconds of CPU for a request, which the server's cores have to spare.
"""

import collections
import dataclasses
import json
import random
import select
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

_READ_BYTES = 2**18
_GIVE_UP_S = 30.0  # after the last request was sent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send. Without `rate` each connection sends its next request when it has its answer; with it requests
    come at random moments, so many per second on average, and wait here for a connection where none is free.
    """

    port: int
    path: str
    bodies: Sequence[str]
    connections: int
    seconds: float
    rate: float | None = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Milliseconds from when each request was due to its answer's last byte, by status, and how long all of it took."""

    times_ms: Mapping[int, Sequence[float]]
    seconds: float

    @property
    def per_second(self) -> float:
        """Answers with status 200 per second."""
        return len(self.times_ms.get(200, ())) / self.seconds


def send_load(plan: Plan) -> Outcome:
    """What came of a plan, carried out by a process of its own."""
    done = subprocess.run(  # noqa: S603 - this module
        [sys.executable, "-m", __name__],
        input=json.dumps(dataclasses.asdict(plan)),
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    return Outcome({int(status): times for status, times in told["times_ms"].items()}, told["seconds"])


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.due = 0.0
        self.received = b""

    def send(self, request: bytes, due: float) -> None:
        self.due, self.received = due, b""
        self.socket.sendall(request)

    def receive(self) -> int | None:
        """The status once the answer is complete. Raises ConnectionError when it ends before."""
        chunk = self.socket.recv(_READ_BYTES)
        if not chunk:
            raise ConnectionError("the server closed a connection")
        self.received += chunk
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return None
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]) if len(body) >= length else None


def _carry_out(plan: Plan) -> dict[str, Any]:
    draw = random.Random(0)  # noqa: S311 - the same load every time
    extra = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
    requests = [
        f"POST {plan.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{extra}"
        f"content-length: {len(body.encode())}\r\n\r\n{body}".encode()
        for body in plan.bodies
    ]
    idle = [_Connection(plan.port) for _ in range(plan.connections)]
    poll = select.epoll()
    by_number = {connection.socket.fileno(): connection for connection in idle}
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    times: dict[int, list[float]] = collections.defaultdict(list)
    due: collections.deque[float] = collections.deque()
    begin = coming = time.perf_counter()
    stop, busy, last = begin + plan.seconds, 0, begin
    while True:
        now = time.perf_counter()
        if now < stop:
            if plan.rate is None:
                due.extend([now] * len(idle))
            while plan.rate is not None and coming <= now:
                due.append(coming)
                coming += draw.expovariate(plan.rate)
        elif not (busy or due) or now > stop + _GIVE_UP_S:
            break
        while due and idle:
            idle[-1].send(draw.choice(requests), due.popleft())
            idle.pop()
            busy += 1
        for number, _ in poll.poll(max(min(coming - now, stop - now), 0) if plan.rate and now < stop else 0.05):
            connection = by_number[number]
            status = connection.receive()
            if status is not None:
                last = time.perf_counter()
                times[status].append(round(1e3 * (last - connection.due), 3))
                idle.append(connection)
                busy -= 1
    return {"times_ms": times, "seconds": last - begin}


if __name__ == "__main__":
    print(json.dumps(_carry_out(Plan(**json.load(sys.stdin)))))
