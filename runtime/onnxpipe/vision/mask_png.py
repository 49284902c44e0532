"""Masks to PNG in base64, as answers carry them, and back.

Written here, for Pillow's encoder tries filters on every row: on masks, it takes three times as long for a larger file
than plain run lengths. And most masks are empty above and below something small: such rows are compressed beforehand.
"""

import base64
import functools
import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Mask = NDArray[np.bool_]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# RFC 1950 and 1951: a stream of the fastest kind; at its end a last block without content, and a checksum
_HEADER, _LAST_BLOCK, _ADLER_MODULUS = b"\x78\x01", b"\x03\x00", 65521


def encode_mask(mask: Mask) -> str:
    """A mask (H, W) as a PNG in base64: one channel of 8 bits (Pillow's mode L), 255 inside and 0 outside."""
    height, width = mask.shape
    content = (
        _SIGNATURE
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + _chunk(b"IDAT", _compress(mask))
        + _chunk(b"IEND", b"")
    )
    return base64.b64encode(content).decode("ascii")


def decode_mask(text: str) -> Mask:
    """The mask (H, W) in what `encode_mask` gave."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image) > 0


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _compress(mask: Mask) -> bytes:
    """The zlib stream of a mask's rows, each behind its filter: 0, none."""
    height, width = mask.shape
    filled = np.flatnonzero(mask.any(axis=1))
    top, bottom = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (height, height)
    rows = np.zeros((bottom - top, 1 + width), np.uint8)
    np.multiply(mask[top:bottom], np.uint8(255), out=rows[:, 1:])
    checksum = _add_zeros(zlib.adler32(rows.data, _add_zeros(1, top * (1 + width))), (height - bottom) * (1 + width))
    blocks = _empty_rows(width, top) + _blocks(rows.data) + _empty_rows(width, height - bottom)
    return _HEADER + blocks + _LAST_BLOCK + struct.pack(">I", checksum)


def _empty_rows(width: int, count: int) -> bytes:
    """Blocks of so many rows of zeros, in powers of two."""
    return b"".join(_empty_power(width, bit) for bit in range(count.bit_length()) if count >> bit & 1)


@functools.lru_cache(maxsize=256)  # 13 for each width of pictures up to 8191 rows, a kilobyte for a million pixels
def _empty_power(width: int, bit: int) -> bytes:
    return _blocks(bytes((1 + width) << bit))


def _blocks(content: bytes | memoryview) -> bytes:
    """Deflate blocks that others may follow: run lengths, which look back at nothing outside."""
    deflate = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return deflate.compress(content) + deflate.flush(zlib.Z_FULL_FLUSH)


def _add_zeros(checksum: int, count: int) -> int:
    """The Adler-32 checksum after so many zeros more: the sum of bytes stays, the sum of sums grows by it each time."""
    sums, total = checksum >> 16, checksum & 0xFFFF
    return (sums + count * total) % _ADLER_MODULUS << 16 | total
