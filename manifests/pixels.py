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

MAX_SIDE = 8192  # of a stored image
MAX_PIXELS = 89_478_485  # of a photograph: where Pillow begins to warn of decompression bombs
GAIN = 8  # of differences in pictures for people

_ORIENTATION = 0x0112  # EXIF tag; what brings each of its values upright:
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Refused by us at the same size, with the image's name.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


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


def decode_photo(data: bytes, where: str, *, upright: bool = False) -> Image.Image:
    """Decode an image file of any common kind to an RGB picture.

    Grey, palette and CMYK images are converted, 16-bit ones scaled to 8 bits, transparency is dropped: what
    ImageNet's usual loaders do, but for 16-bit images, which Pillow alone would clip to white.

    Args:
        data: The file's bytes.
        where: The file's name, for the error message.
        upright: Turn the picture as its EXIF orientation says. ImageNet's loaders do not.

    Raises:
        InputError: The bytes are no image, are cut short, or hold too many pixels.
    """
    with _clear_errors(where), Image.open(io.BytesIO(data)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"{where}: refused, more than {MAX_PIXELS} pixels")
        image.load()
        picture = _to_rgb(image)
        turn = _TURNS.get(_orientation(image)) if upright else None
        return picture if turn is None else picture.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode to 8-bit RGB."""
    if image.mode.startswith("I"):
        deep = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8)).convert("RGB")
    with_alpha = image.mode == "P" and "transparency" in image.info
    return (image.convert("RGBA") if with_alpha else image).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; upright where the EXIF block is missing or broken."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - Pillow raises whatever a broken block leads it to
        return 1


def amplify(image: Pixels, reference: Pixels) -> Pixels:
    """The difference of two images (H, W, 3), `GAIN` times, around mid-grey: for people to look at."""
    difference = image.astype(np.int32) - reference
    shown: Pixels = np.clip(128 + GAIN * difference, 0, 255).astype(np.uint8)
    return shown


@contextmanager
def _clear_errors(where: str) -> Iterator[None]:
    """Turn whatever Pillow says of broken or hostile bytes into one InputError."""
    try:
        yield
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise InputError(f"{where}: cannot be decoded ({error})") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{where}: refused, too many pixels ({error})") from error
