"""How far a long command is, on a terminal's standard error."""

import sys
import time
from typing import TextIO

_WIDTH = 24


class Progress:
    """A bar with the time left, for about `total_s` seconds of planned work; nothing where nobody watches.

    What is left is planned time at the pace so far: work that takes longer than planned shows.
    """

    def __init__(self, total_s: float, stream: TextIO | None = None) -> None:
        self._total_s = max(total_s, 1e-9)
        self._done_s = 0.0
        self._begin = time.perf_counter()
        self._stream = stream or sys.stderr
        self._shows = self._stream.isatty()

    def begin(self, what: str) -> None:
        """Say what comes now."""
        if self._shows:
            share = min(self._done_s / self._total_s, 1.0)
            filled = round(_WIDTH * share)
            bar = "█" * filled + "░" * (_WIDTH - filled)
            self._stream.write(f"\r\x1b[K{bar} {share:4.0%}  {_duration(self.left_s)} left  {what}")
            self._stream.flush()

    def done(self, planned_s: float) -> None:
        """Work of so many planned seconds is over."""
        self._done_s += planned_s

    @property
    def left_s(self) -> float:
        """Seconds that are left at the pace so far."""
        left = max(self._total_s - self._done_s, 0.0)
        took = time.perf_counter() - self._begin
        return left * (took / self._done_s if self._done_s else 1.0)

    def end(self) -> None:
        """Take the bar away."""
        if self._shows:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _duration(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
