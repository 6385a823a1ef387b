"""Encoded images to pixels of one size: decoded once, in preparation, never at serving.

Pillow decodes (it lets go of the interpreter's lock meanwhile); what cannot be decoded is told by a
reason and never stops the run by itself.
"""

from __future__ import annotations

import io
import warnings
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
MAX_PIXELS = 50_000_000  # what one image may unpack to: 150 MB as RGB
BACKGROUND = (255, 255, 255)  # behind transparency and beside a padded image

UNKNOWN_FORMAT, TOO_LARGE, TRUNCATED, CORRUPT = (
    "unknown_format",
    "too_large",
    "truncated",
    "corrupt",
)

# A box filter: shrinking by a whole factor is the exact mean of the pixels.
_FILTER = Image.Resampling.BOX


class BadImage(ValueError):
    """Bytes that are no image that can be used; ``reason`` is one word for counting."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


def decode_image(data: bytes, height: int, width: int, fit: Literal["pad", "crop"]) -> np.ndarray:
    """One encoded image as pixels.

    Palettes, greys, 16-bit greys and CMYK become RGB; transparency is laid on white; the EXIF
    orientation is applied; of an animation the first frame counts.

    Args:
        data: bytes of a JPEG, PNG, GIF or WebP file.
        height, width: of the result, pixels.
        fit: ``pad`` shrinks or grows the whole image into the frame and centres it on white;
            ``crop`` fills the frame and cuts the rest evenly from both sides.

    Returns:
        uint8 [height, width, 3], RGB.

    Raises:
        BadImage: not one of the formats, cut short, damaged, or more than ``MAX_PIXELS`` pixels.
    """
    with warnings.catch_warnings():
        # Pillow warns of large images and of odd metadata; the limit here is our own.
        warnings.simplefilter("ignore")
        image = _open(data)
        # Jpeg can be decoded at 1/2, 1/4, 1/8: as long as twice the frame is left, nobody sees it.
        image.draft(None, (2 * max(height, width),) * 2)
        try:
            image.load()
        except (OSError, EOFError) as error:
            short = any(word in str(error) for word in ("truncated", "unexpected end", "broken"))
            raise BadImage(TRUNCATED if short else CORRUPT, str(error)) from None
        except Exception as error:  # decoders raise what they like on damaged bytes
            raise BadImage(CORRUPT, str(error)) from None
        image = to_rgb(_upright(image))
    return np.asarray(_fitted(image, height, width, fit), np.uint8)


def _open(data: bytes) -> Image.Image:
    """The image's header, read and checked; nothing is unpacked yet."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise BadImage(TOO_LARGE, str(error)) from None
    except Image.UnidentifiedImageError:
        raise BadImage(UNKNOWN_FORMAT, f"one of {FORMATS} is needed") from None
    except Exception as error:
        raise BadImage(CORRUPT, str(error)) from None
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(
            TOO_LARGE,
            f"at most {MAX_PIXELS:,} pixels; got {image.width} x {image.height}",
        )
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Turned as the EXIF orientation says; as it is where that cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow as RGB."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        solid = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        solid.alpha_composite(image.convert("RGBA"))
        return solid.convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _fitted(image: Image.Image, height: int, width: int, fit: str) -> Image.Image:
    """Resized to the frame with its shape kept."""
    if image.size == (width, height):
        return image
    if fit == "crop":
        return ImageOps.fit(image, (width, height), _FILTER)
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    inner = image.resize(size, _FILTER)
    if size == (width, height):
        return inner
    frame = Image.new("RGB", (width, height), BACKGROUND)
    frame.paste(inner, ((width - size[0]) // 2, (height - size[1]) // 2))
    return frame
