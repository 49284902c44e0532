"""What systemd is told of the server: that it is ready, that its event loop still turns, and that it stops.

Only a process with NOTIFY_SOCKET in its environment says anything: a service of `Type=notify`. (sd_notify(3))
"""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping

import uvicorn

_TICKS_PER_S = 10  # how often uvicorn's loop comes round


class SupervisedServer(uvicorn.Server):
    """uvicorn's server, which tells its supervisor when `is_ready` first says so, and from then on that it lives."""

    def __init__(
        self, config: uvicorn.Config, is_ready: Callable[[], bool], environment: Mapping[str, str] = os.environ
    ) -> None:
        super().__init__(config)
        self._is_ready = is_ready
        self._address = environment.get("NOTIFY_SOCKET", "")
        # twice in the time after which it would be taken for dead
        self._ticks = int(environment.get("WATCHDOG_USEC", "0")) * _TICKS_PER_S // 2_000_000
        self._was_ready = False

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does, and the messages that are due."""
        stops = await super().on_tick(counter)
        if self._address:
            if not self._was_ready and self._is_ready():
                self._was_ready = True
                self._tell("READY=1")
            if self._ticks and counter % self._ticks == 0:
                self._tell("WATCHDOG=1")
            if stops:
                self._tell("STOPPING=1")
        return stops

    def _tell(self, state: str) -> None:
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
            supervisor.sendto(state.encode(), address)  # one that does not listen is no reason to stop
