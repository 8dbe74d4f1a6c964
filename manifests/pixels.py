"""Pixels in and out of files: uint8 RGB, height x width x 3, C order."""

import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impure.manifests.errors import InputError

Pixels = NDArray[np.uint8]

MAX_SIDE = 8192  # of a stored image; a photograph may have more, up to Pillow's own bomb limit


def px_sha256(pixels: Pixels) -> str:
    """SHA-256 (hex) of uint8 RGB pixels (H, W, 3), C order."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def encode_png(pixels: Pixels) -> bytes:
    """Encode RGB pixels (H, W, 3) as PNG, fast (compression level 1), the same bytes every time."""
    out = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(out, "PNG", compress_level=1)
    return out.getvalue()


def decode_stored(data: bytes, where: str) -> Pixels:
    """Decode a PNG out of a shard to RGB pixels (H, W, 3).

    Raises:
        InputError: It is no PNG, is not 8-bit RGB, or a side is longer than `MAX_SIDE`.
    """
    with _clear_errors(where), Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if image.mode != "RGB" or max(image.size) > MAX_SIDE:
            raise InputError(f"{where}: expected an RGB image of at most {MAX_SIDE} pixels a side")
        return np.asarray(image)


def decode_photo(data: bytes, where: str) -> Image.Image:
    """Decode an image file of any common kind to an RGB picture.

    Grey, palette and CMYK images are converted, 16-bit ones scaled to 8 bits, transparency is dropped: what
    ImageNet's usual loaders do, but for 16-bit images, which Pillow alone would clip to white.

    Raises:
        InputError: The bytes are no image, are cut short, or hold too many pixels.
    """
    with _clear_errors(where), Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.mode.startswith("I"):
            deep = np.asarray(image).astype(np.int64).clip(0, 65535)
            return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
        with_alpha = image.mode == "P" and "transparency" in image.info
        return (image.convert("RGBA") if with_alpha else image).convert("RGB")


@contextmanager
def _clear_errors(where: str) -> Iterator[None]:
    """Turn whatever Pillow says of broken or hostile bytes into one InputError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{where}: cannot be decoded ({error})") from error
    except Image.DecompressionBombError as error:
        raise InputError(f"{where}: refused, too many pixels ({error})") from error
