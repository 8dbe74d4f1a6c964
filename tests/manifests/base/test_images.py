import io
import struct
import zlib

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageCms, ImageOps, PngImagePlugin

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import (
    PHOTO_FORMATS,
    decode_photo,
    decode_stored,
    encode_png,
    photo_suffixes,
    px_sha256,
)

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOUR = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=-1)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def test_png_keeps_every_pixel_and_is_the_same_twice():
    data = encode_png(COLOUR)
    assert data == encode_png(COLOUR.copy())
    assert np.array_equal(decode_stored(data, "here"), COLOUR)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 20)])
def test_png_is_what_any_reader_expects(shape):
    """All values, at every edge; Pillow reads what was meant."""
    random = np.random.default_rng(sum(shape))
    for pixels in (random.integers(0, 256, (*shape, 3), np.uint8), np.full((*shape, 3), 255, np.uint8)):
        with Image.open(io.BytesIO(encode_png(pixels))) as image:
            assert image.mode == "RGB" and np.array_equal(np.asarray(image), pixels)
        turned = pixels.transpose(1, 0, 2)
        assert np.array_equal(decode_stored(encode_png(turned), "here"), turned)


def test_png_of_an_attacked_image_is_about_as_large_as_pillows():
    random = np.random.default_rng(0)
    photograph = np.linspace(40, 200, 64)[:, None, None] + random.normal(0, 4, (64, 64, 3))
    noisy = (photograph + random.choice([-16, 16], photograph.shape)).astype(np.uint8)
    assert len(encode_png(noisy)) < 1.05 * len(saved(Image.fromarray(noisy), "PNG", compress_level=1))


def test_the_pixel_hash_is_of_the_bytes_in_c_order():
    assert px_sha256(COLOUR) == px_sha256(np.asfortranarray(COLOUR))
    assert px_sha256(COLOUR) != px_sha256(COLOUR[::-1])


def test_sixteen_bit_images_are_scaled_not_clipped():
    deep = (RAMP.astype(np.uint16) * 257).astype(np.uint16)
    photo = decode_photo(saved(Image.fromarray(deep), "PNG"), "here")
    assert photo.mode == "RGB"
    assert np.array_equal(np.asarray(photo)[..., 0], RAMP)


@pytest.mark.parametrize(
    ("image", "kind"),
    [
        (Image.fromarray(RAMP), "JPEG"),
        (Image.fromarray(COLOUR).convert("CMYK"), "JPEG"),
        (Image.fromarray(COLOUR).quantize(16), "PNG"),
        (Image.fromarray(COLOUR).convert("RGBA"), "PNG"),
        (Image.fromarray(RAMP).convert("1"), "PNG"),
    ],
)
def test_any_kind_of_image_becomes_rgb_close_to_what_it_shows(image, kind):
    photo = decode_photo(saved(image, kind), "here")
    assert photo.mode == "RGB"
    assert np.abs(np.asarray(photo, float) - np.asarray(image.convert("RGB"), float)).mean() < 6


def test_pictures_are_turned_upright_on_request_and_broken_exif_does_no_harm():
    wide = Image.fromarray(np.zeros((8, 16, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = saved(wide, "JPEG", exif=exif)
    assert decode_photo(turned, "here").size == (16, 8)
    assert decode_photo(turned, "here", upright=True).size == (8, 16)
    for value in range(1, 9):
        exif[0x0112] = value
        picture = Image.fromarray(COLOUR)
        data = saved(picture, "PNG", exif=exif)
        with Image.open(io.BytesIO(data)) as opened:
            expected = ImageOps.exif_transpose(opened)
        assert np.array_equal(decode_photo(data, "here", upright=True), expected)
    broken = turned.replace(b"Exif\0\0MM", b"Exif\0\0ZZ")
    assert broken != turned
    assert decode_photo(broken, "here", upright=True).size == (16, 8)


def test_palette_transparency_is_dropped_without_a_warning():
    image = Image.fromarray(COLOUR).quantize(16)
    assert decode_photo(saved(image, "PNG", transparency=bytes(range(16))), "here").mode == "RGB"


@pytest.mark.parametrize("compressed", [True, False])
def test_a_png_may_hold_a_large_colour_profile_and_long_texts(compressed):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(3 << 20)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("history", "edited " * 500_000, zip=compressed)
    texts.add_itxt("XML:history", "edited " * 500_000, zip=compressed)
    data = saved(Image.fromarray(COLOUR), "PNG", icc_profile=profile, pnginfo=texts)
    assert np.array_equal(np.asarray(decode_photo(data, "here")), COLOUR)


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "TIFF"), ("int32", "TIFF"), ("float32", "PPM")])
def test_values_without_a_known_white_are_refused_not_made_black(dtype, kind):
    data = saved(Image.fromarray(RAMP.astype(dtype)), kind)
    with pytest.raises(InputError, match=r"here: refused, .*convert it to 8 or 16 bits"):
        decode_photo(data, "here")


def test_only_formats_of_photographs_are_opened_whatever_a_file_is_called(monkeypatch):
    """Above all EPS, for which Pillow would start Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("started Ghostscript"))
    picture = Image.fromarray(COLOUR)
    for kind in PHOTO_FORMATS:
        assert decode_photo(saved(picture, kind), "here").size == picture.size
    for kind in ("EPS", "TGA", "DIB", "ICO", "PCX", "SGI", "SPIDER"):
        data = saved(picture.convert("F") if kind == "SPIDER" else picture, kind)
        with pytest.raises(InputError, match="photo.jpg: cannot be decoded"):
            decode_photo(data, "photo.jpg")
    assert {".jpg", ".jpeg", ".png", ".webp"} <= photo_suffixes()
    assert not {".eps", ".ps", ".pdf"} & photo_suffixes()


@pytest.mark.parametrize("data", [b"", b"no image", saved(Image.fromarray(COLOUR), "PNG")[:60]])
def test_broken_bytes_are_refused_with_their_place(data):
    with pytest.raises(InputError, match=r"here: .*decoded"):
        decode_photo(data, "here")
    with pytest.raises(InputError, match="here"):
        decode_stored(data, "here")


def test_decompression_bombs_are_refused():
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = saved(Image.fromarray(COLOUR), "PNG")
    bomb = data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    with pytest.raises(InputError, match="here"):
        decode_photo(bomb, "here")
    with pytest.raises(InputError, match="here"):
        decode_stored(bomb, "here")


def test_a_shard_image_that_is_no_png_is_refused():
    with pytest.raises(InputError, match="here"):
        decode_stored(saved(Image.fromarray(COLOUR), "JPEG"), "here")
