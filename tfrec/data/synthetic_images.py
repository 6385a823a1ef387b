"""Small PNG images, written by hand: colour tells the category, pattern the style."""

from __future__ import annotations

import struct
import zlib

import numpy as np

SIZE = 16
COLOURS = np.array(
    [[200, 60, 60], [60, 160, 60], [60, 60, 200], [200, 170, 40], [170, 60, 170], [60, 170, 170]]
)


def encode_png(pixels: np.ndarray) -> bytes:
    """An RGB image as PNG bytes.

    Args:
        pixels: uint8 [height, width, 3].
    """
    if pixels.shape[2:] != (3,) or pixels.dtype != np.uint8:
        raise ValueError(
            f"pixels are uint8 [height, width, 3]; got {pixels.dtype} {list(pixels.shape)}"
        )
    height, width, _ = pixels.shape
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # byte 0 of a row: no filter
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def draw_png(category: int, style: int, rng: np.random.Generator) -> bytes:
    """A 16 x 16 image: the category's colour in the style's pattern, with a little noise."""
    y, x = np.mgrid[:SIZE, :SIZE]
    patterns = (np.zeros_like(x), x // 4 % 2, y // 4 % 2, (x // 4 + y // 4) % 2)
    shade = 1.0 - 0.5 * patterns[style % len(patterns)]
    pixels = COLOURS[category % len(COLOURS)] * shade[..., None]
    noisy = pixels + rng.integers(-12, 13, pixels.shape)
    return encode_png(np.clip(noisy, 0, 255).astype(np.uint8))
