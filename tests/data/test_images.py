"""Decoding: each format and mode against pixels known beforehand; what fails has a reason."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tfrec.config import DataConfig
from tfrec.data import images
from tfrec.data.image_files import image_paths, with_image_files
from tfrec.data.images import BadImage, decode_image
from tfrec.data.quarantine import Quarantine
from tfrec.data.synthetic_images import encode_png
from tfrec.data.tables import DataError, read_item_range, write_attributes

RED, GREEN, BLUE, GREY = (250, 10, 10), (10, 240, 20), (20, 30, 230), (90, 90, 90)


def quadrants(size: int = 32) -> np.ndarray:
    """Four colours, one a corner: red, green over blue, grey."""
    half = size // 2
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[:half, :half], pixels[:half, half:] = RED, GREEN
    pixels[half:, :half], pixels[half:, half:] = BLUE, GREY
    return pixels


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def corners(pixels: np.ndarray) -> np.ndarray:
    """The middle of each quadrant, [4, 3]."""
    quarter, size = pixels.shape[0] // 4, pixels.shape[0]
    at = [quarter, size - quarter]
    return np.array([pixels[y, x] for y in at for x in at], int)


WHOLE = Image.fromarray(quadrants())
NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        (encode_png(quadrants()), 0),
        (saved(WHOLE, "PNG"), 0),
        (saved(WHOLE.quantize(4), "PNG"), 2),
        (saved(WHOLE, "WEBP", lossless=True), 0),
        (saved(WHOLE.quantize(4), "GIF"), 2),
        (saved(WHOLE, "JPEG", quality=95), 6),
        (saved(WHOLE.convert("CMYK"), "JPEG", quality=95), 8),
        (saved(WHOLE, "JPEG", quality=95, progressive=True), 6),
    ],
    ids=["own-png", "png", "palette", "webp", "gif", "jpeg", "cmyk", "progressive"],
)
def test_formats(data: bytes, tolerance: int) -> None:
    found = decode_image(data, 32, 32, "pad")
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    np.testing.assert_allclose(corners(found), [RED, GREEN, BLUE, GREY], atol=tolerance)


def test_greys_of_8_and_16_bits() -> None:
    grey = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    for image in (Image.fromarray(grey), Image.fromarray(grey.astype(np.uint16) << 8)):
        found = decode_image(saved(image, "PNG"), 8, 8, "pad")
        np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, axis=2))


def test_transparency_is_laid_on_white() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0], pixels[:4, :, 3], pixels[4:, :, 3] = 200, 255, 0
    found = decode_image(saved(Image.fromarray(pixels), "PNG"), 8, 8, "pad")
    assert (found[:4] == (200, 0, 0)).all()
    assert (found[4:] == 255).all()
    half = Image.new("LA", (8, 8), (0, 128))
    found = decode_image(saved(half, "PNG"), 8, 8, "pad")
    assert np.abs(found.astype(int) - 127).max() <= 1
    # A transparent entry of a palette.
    paletted = Image.new("P", (8, 8), 0)
    paletted.putpalette([10, 20, 30] * 256)
    found = decode_image(saved(paletted, "PNG", transparency=0), 8, 8, "pad")
    assert (found == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation: int) -> None:
    """A camera that was turned stores the pixels turned and says so."""
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = WHOLE if orientation == 1 else WHOLE.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode_image(saved(stored, "JPEG", quality=95, exif=exif), 32, 32, "pad")
    np.testing.assert_allclose(corners(found), [RED, GREEN, BLUE, GREY], atol=6)


def test_shrinking_is_the_mean() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    mean = pixels.reshape(16, 4, 24, 4, 3).mean(axis=(1, 3))
    found = decode_image(encode_png(pixels), 16, 24, "pad")
    np.testing.assert_allclose(found, mean, atol=1)


def test_pad_keeps_all_and_crop_fills() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :8], pixels[:, 8:24], pixels[:, 24:] = RED, GREEN, BLUE
    padded = decode_image(encode_png(pixels), 16, 16, "pad")
    assert (padded[:4] == 255).all()
    assert (padded[12:] == 255).all()
    assert padded[8, [0, 8, 15]].tolist() == [list(RED), list(GREEN), list(BLUE)]
    cropped = decode_image(encode_png(pixels), 16, 16, "crop")
    assert (cropped == GREEN).all()
    thin = decode_image(encode_png(np.full((1, 300, 3), 7, np.uint8)), 8, 8, "pad")
    assert (thin == 7).all(axis=(1, 2)).sum() == 1


def test_a_large_jpeg_is_drafted_to_the_same_picture() -> None:
    large = Image.fromarray(quadrants(1024))
    found = decode_image(saved(large, "JPEG", quality=95), 32, 32, "pad")
    np.testing.assert_allclose(corners(found), [RED, GREEN, BLUE, GREY], atol=6)


def bomb(width: int, height: int) -> bytes:
    """A PNG header that promises so many pixels, with next to nothing behind."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"")
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"no image at all", images.UNKNOWN_FORMAT),
        (b"GIF89a", images.UNKNOWN_FORMAT),
        (saved(WHOLE, "BMP"), images.UNKNOWN_FORMAT),
        (saved(NOISE, "JPEG")[:2000], images.TRUNCATED),
        (saved(WHOLE, "PNG")[:-40], images.TRUNCATED),
        (bomb(8000, 8000), images.TOO_LARGE),
        (bomb(100_000, 100_000), images.TOO_LARGE),
    ],
    ids=["text", "header-only", "bmp", "cut-jpeg", "cut-png", "bomb", "huge-bomb"],
)
def test_what_cannot_be_decoded_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode_image(data, 16, 16, "pad")
    assert caught.value.reason == reason


def test_damaged_bytes_never_raise_anything_else() -> None:
    random = np.random.default_rng(0)
    sources = [saved(WHOLE, k) for k in ("PNG", "JPEG", "WEBP")] + [saved(WHOLE.quantize(4), "GIF")]
    bad = 0
    for turn in range(200):
        data = bytearray(sources[turn % len(sources)])
        for at in random.integers(0, len(data), 8):
            data[at] = random.integers(0, 256)
        try:
            decode_image(bytes(data), 16, 16, "crop")
        except BadImage:
            bad += 1
    assert 0 < bad < 200


def data_config(path: Path, **files: str) -> DataConfig:
    return DataConfig(format="canonical", path=str(path), image_files=files)


def test_image_files_by_id_and_by_column(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "pictures").mkdir(parents=True)
    (folder / "pictures" / "i1.png").write_bytes(b"one")
    (folder / "pictures" / "two.png").write_bytes(b"two")
    (tmp_path / "secret.png").write_bytes(b"secret")
    items = pa.table(
        {
            "item_id": ["i1", "i2", "i3", "i4"],
            "file": ["pictures/i1.png", "pictures/two.png", None, "../secret.png"],
        }
    )
    config = data_config(folder, poster="pictures/{item_id}.png", cover="{file}")
    with Quarantine(tmp_path / "q.jsonl", 0.0) as quarantine:
        found = with_image_files(items, config, quarantine)
    assert found.column("poster").to_pylist() == [b"one", None, None, None]
    assert found.column("cover").to_pylist() == [b"one", b"two", None, None]
    assert quarantine.counts() == {"cover": {"outside_data_path": 1}}
    assert folder / "pictures" / "two.png" in image_paths(config)


@pytest.mark.parametrize("pattern", ["poster.png", "{price}.png", "{item_id", "nowhere/{item_id}"])
def test_bad_patterns_are_named(tmp_path: Path, pattern: str) -> None:
    items = pa.table({"item_id": ["i1"], "price": pa.array([1.0], pa.float32())})
    with (
        Quarantine(tmp_path / "q.jsonl", 0.0) as quarantine,
        pytest.raises(DataError, match=r"data\.image_files\.poster"),
    ):
        with_image_files(items, data_config(tmp_path, poster=pattern), quarantine)


def test_a_range_of_items_is_read_across_row_groups(tmp_path: Path) -> None:
    n = 1300
    items = pa.table(
        {"item_id": [f"i{i}" for i in range(n)], "image": pa.array([b"x"] * n, pa.binary())}
    )
    write_attributes(pa.table({"user_id": ["u"]}), items, tmp_path)
    for start, rows in ((0, 512), (500, 30), (512, 512), (1290, 512), (0, 2000)):
        found = read_item_range(tmp_path, start, rows)
        assert found.equals(items.slice(start, rows)), (start, rows)
    assert read_item_range(tmp_path, n, 10).num_rows == 0
