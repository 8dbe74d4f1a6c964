"""Encode and decode images within limits, and hash their pixels: uint8 RGB, height x width x 3, C order."""

import hashlib
import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from impure.manifests.base.errors import InputError

Pixels = NDArray[np.uint8]

MAX_SIDE = 8192  # of a photograph once resized
MAX_STORED_SIDE = 4096  # of an image in a shard: the most that a target can ask for
MAX_PIXELS = 89_478_485  # of a photograph: where Pillow begins to warn of decompression bombs
GAIN = 8  # of differences in pictures for people

#: What photographs come in, in Pillow's names. Files of other formats are never opened, whatever they are
#: called: on EPS, Pillow starts Ghostscript.
PHOTO_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")

_OVERHEAD = 1 << 16  # bytes: of a stored image's format, beyond its pixels

#: Texts and profiles, which Pillow unpacks to whatever size they have: a stored image has no use for them.
_UNPACKED_CHUNKS = frozenset((b"iCCP", b"zTXt", b"iTXt"))

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_AVERAGE = 3  # PNG's filter type

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

# Printers' colour profiles and editors' histories are larger than Pillow's limit for one text, and harmless:
# the limit for all of an image's texts together is enough.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY


def photo_suffixes() -> frozenset[str]:
    """Endings of the names that files of `PHOTO_FORMATS` have, in lower case."""
    kinds = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in kinds if kind in PHOTO_FORMATS)


def px_sha256(pixels: Pixels) -> str:
    """SHA-256 (hex) of uint8 RGB pixels (H, W, 3), C order."""
    return hashlib.sha256(np.ascontiguousarray(pixels).ravel().data).hexdigest()


def encode_png(pixels: Pixels) -> bytes:
    """Encode RGB pixels (H, W, 3) as PNG, fast, the same bytes every time.

    Attacked images are noise: the average of two neighbours (PNG specification, filter type 3) foretells it
    best, and no matches but runs are worth looking for. Pillow tries all filters on each row, and looks for
    all matches: three times the time for about as many bytes.
    """
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    deflate = zlib.compressobj(level=1, memLevel=9, strategy=zlib.Z_RLE)
    data = deflate.compress(_less_average(pixels.reshape(height, 3 * width)).data) + deflate.flush()
    chunks = _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", data) + _png_chunk(b"IEND", b"")
    return _PNG_SIGNATURE + chunks


def _less_average(rows: Pixels) -> Pixels:
    """Rows of a PNG (H, 1 + 3 W): the filter's type, then bytes less their left and upper ones' average."""
    height, size = rows.shape
    padded = np.zeros((height + 1, size + 3), np.uint8)
    padded[1:, 3:] = rows
    left, upper = padded[1:, :-3], padded[:-1, 3:]
    filtered = np.full((height, 1 + size), _AVERAGE, np.uint8)
    np.subtract(rows, (left & upper) + ((left ^ upper) >> 1), out=filtered[:, 1:])
    return filtered


def _png_chunk(name: bytes, data: bytes) -> bytes:
    """One chunk: size, name, data, checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def encode_webp(pixels: Pixels) -> bytes:
    """Encode RGB pixels (H, W, 3) as lossless WebP, as fast as it goes, the same bytes every time."""
    from impure.manifests.base.webp_encoder import encode_vp8l  # here: its compiler is large

    return encode_vp8l(pixels)


def encode_flat_webp(pixels: Pixels) -> bytes:
    """The same for images of few colours, such as perturbations: libwebp, which looks for repetitions."""
    out = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(out, "WEBP", lossless=True, quality=0, method=0, exact=True)
    return out.getvalue()


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of an 8-bit RGB PNG that holds nothing else that would have to be unpacked."""
    plain = data.startswith(_PNG_SIGNATURE + b"\0\0\0\rIHDR") and data[24:26] == b"\x08\x02"
    if not plain or not _UNPACKED_CHUNKS.isdisjoint(_png_chunks(data)):
        return None
    return struct.unpack(">II", data[16:24])


def _png_chunks(data: bytes) -> Iterator[bytes]:
    """Names of a PNG's chunks, in order."""
    start = 8
    while start + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[start : start + 8])
        yield name
        start += size + 12


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP of one lossless image and nothing else."""
    if not data.startswith(b"RIFF") or data[8:16] != b"WEBPVP8L" or data[20:21] != b"\x2f":
        return None
    bits = int.from_bytes(data[21:25], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


@dataclass(frozen=True, slots=True)
class Encoding:
    """A lossless image format.

    Attributes:
        encode: Writes a photograph, clean or attacked.
        encode_delta: Writes a perturbation, which has few values.
        size: Reads width and height off the first bytes.
    """

    encode: Callable[[Pixels], bytes]
    encode_delta: Callable[[Pixels], bytes]
    size: Callable[[bytes], tuple[int, int] | None]


#: By the ending of a shard's members.
ENCODINGS = {
    "png": Encoding(encode_png, encode_png, _png_size),
    "webp": Encoding(encode_webp, encode_flat_webp, _webp_size),
}


def decode_stored(data: bytes, where: str, encoding: str = "png") -> Pixels:
    """Decode an image out of a shard to RGB pixels (H, W, 3).

    Size and kind are read off the first bytes before Pillow sees any: its WebP reader makes room for what the
    header claims as it opens a file, and PNGs of 16 bits would pass for ones of 8.

    Args:
        data: The member's content.
        where: Its name, for the error message.
        encoding: A key of `ENCODINGS`.

    Raises:
        InputError: It is no 8-bit RGB image of that encoding, a side is longer than `MAX_STORED_SIDE`, or it
            has more bytes than such an image can need.
    """
    width, height = ENCODINGS[encoding].size(data) or (0, 0)
    if not 0 < width <= MAX_STORED_SIDE or not 0 < height <= MAX_STORED_SIDE:
        raise InputError(
            f"{where}: cannot be decoded: expected an 8-bit RGB image, lossless {encoding.upper()}, "
            f"of at most {MAX_STORED_SIDE} pixels a side"
        )
    if len(data) > 4 * width * height + _OVERHEAD:
        raise InputError(f"{where}: refused, {len(data)} bytes are too many for {width}x{height} pixels")
    with _clear_errors(where), Image.open(io.BytesIO(data), formats=[encoding.upper()]) as image:
        if image.mode != "RGB" or image.size != (width, height) or getattr(image, "n_frames", 1) != 1:
            raise InputError(f"{where}: cannot be decoded: expected one RGB image")
        return np.asarray(image)


def decode_photo(data: bytes, where: str, *, upright: bool = False) -> Image.Image:
    """Decode a photograph, a file of one of `PHOTO_FORMATS`, to an RGB picture.

    Grey, palette and CMYK images are converted, 16-bit ones scaled to 8 bits, transparency is dropped: what
    ImageNet's usual loaders do, but for 16-bit images, which Pillow alone would clip to white.

    Args:
        data: The file's bytes.
        where: The file's name, for the error message.
        upright: Turn the picture as its EXIF orientation says. ImageNet's loaders do not.

    Raises:
        InputError: The bytes are no such image, are cut short, hold too many pixels, or floating-point or
            32-bit values, of which nobody knows which one is white.
    """
    with _clear_errors(where), Image.open(io.BytesIO(data), formats=PHOTO_FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise InputError(f"{where}: refused, more than {MAX_PIXELS} pixels")
        if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
            raise InputError(
                f"{where}: refused, its values are 32-bit or floating-point numbers, without a known white; "
                "convert it to 8 or 16 bits"
            )
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
    """Turn whatever Pillow says of broken or hostile bytes into one InputError.

    Its own words are left out: they hold addresses in memory, and plans and manifests keep the reason.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{where}: refused, too many pixels") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{where}: cannot be decoded (not a known image format)") from error
    except Exception as error:  # Pillow raises whatever broken bytes lead it to
        raise InputError(f"{where}: cannot be decoded (damaged or cut short)") from error
