"""The pictures every export of a vision model is verified on: drawn, so that they can go wherever the code goes.

Flat and busy, light and dark, wide and tall, as data: URLs, for one of them is in the bundle as its golden request.
"""

import base64
import io

import numpy as np
from PIL import Image, ImageDraw

_SIZES = ((96, 64), (64, 96), (72, 72), (160, 48), (40, 120))
_PALETTE = ("#d62728", "#2ca02c", "#1f77b4", "#ffdd33", "#111111", "#f5f5f5")


def _draw(number: int) -> str:
    """Picture `number`: a gradient, shapes over it, and noise on every third."""
    width, height = _SIZES[number % len(_SIZES)]
    draws = np.random.default_rng(number)
    ramp = np.linspace(0, 255, width)[None, :, None] * draws.random(3) + np.linspace(0, 120, height)[:, None, None]
    if number % 3 == 2:
        ramp = ramp + draws.normal(0, 25, (height, width, 3))
    picture = Image.fromarray(np.clip(ramp, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(number % 4):
        left, top = int(draws.integers(0, width - 16)), int(draws.integers(0, height - 16))
        box = (left, top, left + int(draws.integers(8, width // 2)), top + int(draws.integers(8, height // 2)))
        shape = pen.ellipse if draws.random() < 0.5 else pen.rectangle
        shape(box, fill=_PALETTE[int(draws.integers(len(_PALETTE)))])
    return _data_url(picture)


def _data_url(picture: Image.Image) -> str:
    content = io.BytesIO()
    picture.save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


PICTURES = tuple(map(_draw, range(12)))


def draw_pictures(count: int) -> list[str]:
    """More of the kind, as data: URLs, none of which is among PICTURES."""
    return [_draw(number) for number in range(len(PICTURES), len(PICTURES) + count)]
