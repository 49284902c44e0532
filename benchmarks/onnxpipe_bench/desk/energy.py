"""Energy of the whole machine, where it tells it: RAPL of Intel and AMD processors, NVML of NVIDIA's devices."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_RAPL = Path("/sys/class/powercap")
_LEAST_S = 0.5


class Meter:
    """Counters of joules; `told` says what they count, or why there are none."""

    def __init__(self, root: Path = _RAPL) -> None:
        self._domains: list[tuple[Path, int]] = []
        problem = "no RAPL counters and no NVML"
        for folder in sorted(root.glob("intel-rapl:[0-9]")) + sorted(root.glob("intel-rapl:[0-9][0-9]")):
            counter = folder / "energy_uj"
            try:
                int(counter.read_text())
                wraps_at = int((folder / "max_energy_range_uj").read_text())
            except (OSError, ValueError):
                problem = f"{counter} cannot be read: only root may, unless it is made readable"
            else:
                self._domains.append((counter, wraps_at))
        self._devices = _nvml_devices()
        names = [f"{len(self._domains)} processor package(s), RAPL"] if self._domains else []
        names += [f"{len(self._devices)} NVIDIA device(s), NVML"] if self._devices else []
        self.told = " and ".join(names) if names else f"not told by this machine ({problem})"

    @property
    def counts(self) -> bool:
        """Whether there is any counter."""
        return bool(self._domains or self._devices)

    def joules_per_call(self, call: Callable[[], object], seconds: float) -> dict[str, float] | None:
        """What a call takes when it is made over and over, and the power meanwhile; None without counters."""
        if not self.counts:
            return None
        before, begin, calls = self._read(), time.perf_counter(), 0
        while calls == 0 or time.perf_counter() - begin < max(seconds, _LEAST_S):
            call()
            calls += 1
        took_s = time.perf_counter() - begin
        joules = self._since(before)
        return {"joules": round(joules / calls, 6), "watts": round(joules / took_s, 2), "calls": calls}

    def _read(self) -> list[int]:
        """Microjoules of the packages, then of the devices."""
        packages = [int(counter.read_text()) for counter, _ in self._domains]
        return [*packages, *(1000 * int(read()) for read in self._devices)]

    def _since(self, before: list[int]) -> float:
        spans = [span for _, span in self._domains] + [0] * len(self._devices)
        used = [now - then for now, then in zip(self._read(), before, strict=True)]
        # a counter begins again at its end
        return sum(one + span if one < 0 else one for one, span in zip(used, spans, strict=True)) / 1e6


def _nvml_devices() -> list[Callable[[], Any]]:  # each gives the millijoules since the driver was loaded
    try:
        import pynvml
    except ModuleNotFoundError:
        return []
    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        for handle in handles:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return []
    return [functools.partial(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle) for handle in handles]
