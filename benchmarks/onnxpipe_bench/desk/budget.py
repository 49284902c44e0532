"""What a tuned bundle may lose and take: the bounds of `onnxpipe tune`."""

import dataclasses
import re

from onnxpipe.errors import InvalidInput

_UNITS = {"": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_PERCENTILES = {"p50": 50, "p90": 90, "p95": 95, "p99": 99}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
    """The share of quality that may be lost to fp32, the peak memory, and the percentile of latency that counts."""

    max_drop: float = 0.005
    memory_bytes: int | None = None
    percentile: int = 50

    @property
    def told(self) -> str:
        """In words."""
        memory = f", at most {self.memory_bytes / 2**20:.0f} MiB" if self.memory_bytes else ""
        return f"at most {self.max_drop:.2%} worse than fp32{memory}, fastest at p{self.percentile}"


def read_share(text: str) -> float:
    """The share in "0.5%". Raises InvalidInput for anything else: 0.5 could mean a half."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if match is None or float(match[1]) > 100:
        raise InvalidInput(f"--max-drop: expected a share from 0% to 100%, as in 0.5%, given {text!r}")
    return float(match[1]) / 100


def read_bytes(text: str) -> int:
    """The bytes in "512MiB". Raises InvalidInput."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?b)?\s*", text.lower())
    if match is None or not float(match[1]):
        raise InvalidInput(f"--memory: expected a size such as 512MiB or 1.5GB, given {text!r}")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def read_percentile(text: str) -> int:
    """The number in "p99". Raises InvalidInput."""
    if text not in _PERCENTILES:
        raise InvalidInput(f"--latency: expected one of {', '.join(_PERCENTILES)}, given {text!r}")
    return _PERCENTILES[text]
