"""The sounds every audio model is verified on: made here, so that they can go wherever the code goes.

A buzz with the rhythm of syllables, sweeps, breath and clicks; loud and faint, of several lengths, rates, channels and
depths, as data: URLs, for one of them is in the bundle as its golden request.
"""

import base64
import io
import wave

import numpy as np
from numpy.typing import NDArray

# seconds, rate, channels, bytes of a sample
_KINDS = ((0.7, 16_000, 1, 2), (1.0, 44_100, 2, 2), (0.35, 8_000, 1, 1), (1.2, 48_000, 1, 3), (1.7, 22_050, 1, 2))


def _make(number: int) -> str:
    """Sound `number` as a WAV file."""
    seconds, rate, channels, width = _KINDS[number % len(_KINDS)]
    draws = np.random.default_rng(number)
    time = np.arange(int(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(90 + 60 * draws.random() + 20 * np.sin(19 * time)) / rate
    if number % 4 == 0:
        sound = sum(np.sin(order * phase) / order for order in range(1, 7)) * np.sin((6 + number) * time) ** 2
    elif number % 4 == 1:
        sound = np.sin(2 * np.pi * (200 + 900 * time) * time)
    elif number % 4 == 2:
        sound = draws.normal(0, 0.4, len(time)) * np.exp(-2 * time)
    else:
        sound = 0.2 * np.sin(phase) + (np.arange(len(time)) % (rate // 7) < 30)
    sound = sound + draws.normal(0, 0.003, len(time))
    mono = (0.05 + 0.8 * draws.random()) * sound / np.abs(sound).max()
    levels = np.stack([mono * (1 - 0.5 * channel) for channel in range(channels)], axis=1)
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(_to_bytes(levels, width))
    return f"data:audio/wav;base64,{base64.b64encode(content.getvalue()).decode()}"


def _to_bytes(levels: NDArray[np.float64], width: int) -> bytes:
    """Little-endian integers of `width` bytes; single bytes have no sign in WAV."""
    integers = np.round(levels * (2 ** (8 * width - 1) - 1)).astype("<i4")
    if width == 1:
        return bytes((integers + 128).astype(np.uint8))
    return bytes(np.ascontiguousarray(integers).view(np.uint8).reshape(-1, 4)[:, :width].ravel())


SOUNDS = tuple(map(_make, range(10)))
