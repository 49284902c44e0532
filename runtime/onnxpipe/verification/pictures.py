"""Drawn pictures to verify on, where nothing but numpy is there to draw with: as data: URLs, to go into manifests."""

import base64
import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_SIZES = ((96, 64), (64, 96), (72, 72), (160, 48), (40, 120), (120, 90))  # width, height
_COLOURS = ((214, 39, 40), (44, 160, 44), (31, 119, 180), (255, 221, 51), (17, 17, 17), (245, 245, 245))


def _draw(number: int) -> str:
    """Picture `number`: a gradient, rectangles over it, and noise on every third."""
    width, height = _SIZES[number % len(_SIZES)]
    draws = np.random.default_rng(number)
    pixels = np.linspace(0, 255, width)[None, :, None] * draws.random(3) + np.linspace(0, 120, height)[:, None, None]
    for _ in range(number % 4):
        left, top = int(draws.integers(0, width - 16)), int(draws.integers(0, height - 16))
        right, bottom = left + int(draws.integers(8, width // 2)), top + int(draws.integers(8, height // 2))
        pixels[top:bottom, left:right] = _COLOURS[int(draws.integers(len(_COLOURS)))]
    if number % 3 == 2:
        pixels = pixels + draws.normal(0, 25, (height, width, 3))
    return f"data:image/png;base64,{base64.b64encode(_png(np.clip(pixels, 0, 255).astype(np.uint8))).decode()}"


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of pixels (H, W, 3): of each its difference to the one before, rows behind a 1 for that filter."""
    height, width, _ = pixels.shape
    steps = pixels.copy()
    steps[:, 1:] -= pixels[:, :-1]  # modulo 256, as PNG wants it
    rows = np.concatenate([np.ones((height, 1), np.uint8), steps.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )


DRAWN = tuple(map(_draw, range(12)))
