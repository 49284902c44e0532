"""What the terminal shows while an export runs: one bar per stage, or one line where there is no terminal."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO


class Progress:
    """Numbered stages on stderr; silent unless `show`."""

    def __init__(self, stages: int, *, show: bool) -> None:
        self._stages = stages
        self._stream: TextIO | None = sys.stderr if show else None
        self._number = 0

    @contextlib.contextmanager
    def stage(self, name: str, steps: int = 1) -> Iterator[Callable[[], None]]:
        """A stage of `steps` steps; the yielded function marks one of them done. One-step stages mark themselves."""
        from tqdm import tqdm

        self._number += 1
        title = f"[{self._number}/{self._stages}] {name}"
        terminal = self._stream is not None and self._stream.isatty()
        begin = time.perf_counter()
        with tqdm(
            total=steps,
            desc=f"{title:<28}",
            file=self._stream,
            disable=not terminal,
            bar_format="{desc} {bar:24} {n_fmt:>3}/{total_fmt:<3} {elapsed}",
        ) as bar:
            yield bar.update
            if steps == 1:
                bar.update()
        if self._stream is not None and not terminal:
            self._stream.write(f"{title:<28} {time.perf_counter() - begin:6.1f} s\n")
            self._stream.flush()
