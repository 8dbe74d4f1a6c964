"""Our WebP: what a stock reader decodes is what was encoded, in about as many bytes as libwebp takes."""

import io

import numpy as np
import pytest
from PIL import Image

from impure.manifests.base.images import encode_flat_webp, encode_webp

RNG = np.random.default_rng(0)
SHAPES = [(1, 1, 3), (1, 9, 3), (9, 1, 3), (2, 2, 3), (33, 70, 3), (520, 513, 3)]  # blocks have 512 pixels


def decoded(data):
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode) == ("WEBP", "RGB")
        return np.asarray(image)


def fibonacci():
    """Grey pixels whose residuals occur 1, 1, 2, 3, 5 … times: the best code's words grow to 22 bits."""
    counts = [1, 1]
    while len(counts) < 23:
        counts.append(sum(counts[-2:]))
    row = np.cumsum(np.repeat(np.arange(len(counts)), counts)).astype(np.uint8)
    return np.repeat(row[None, :, None][:, : 1 << 14], 3, axis=2)


IMAGES = {
    **{f"noise {shape}": RNG.integers(0, 256, shape, np.uint8) for shape in SHAPES},
    **{f"one colour {shape}": np.full(shape, (7, 255, 0), np.uint8) for shape in SHAPES},
    "two values": RNG.integers(0, 2, (40, 30, 3), np.uint8) * np.uint8(255),
    "one channel varies": RNG.integers(0, 256, (40, 30, 3), np.uint8) * np.array([0, 0, 1], np.uint8),
    "rare values": np.minimum(RNG.geometric(0.5, (300, 300, 3)), 255).astype(np.uint8),
    "words longer than 15 bits": fibonacci(),
    "from the right": RNG.integers(0, 256, (8, 9, 3), np.uint8)[:, ::-1],
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_stock_reader_decodes_what_was_encoded(name):
    pixels = IMAGES[name]
    assert encode_webp(pixels) == encode_webp(pixels.copy())
    assert np.array_equal(decoded(encode_webp(pixels)), pixels)


def photograph():
    """Smooth shapes under a little noise, 128 pixels a side."""
    y, x = np.mgrid[:128, :128] / 128
    smooth = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * x * y), np.sin(5 * y)], axis=2) * 90 + 128
    return (smooth + RNG.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)


def test_it_takes_about_as_many_bytes_as_libwebp():
    attacked = photograph().astype(int) + RNG.choice([-16, -8, 0, 8, 16], (128, 128, 3))
    for pixels in (photograph(), attacked.clip(0, 255).astype(np.uint8)):
        assert len(encode_webp(pixels)) < 1.05 * len(encode_flat_webp(pixels))


def test_perturbations_of_few_values_are_left_to_libwebp():
    signs = (128 + 16 * RNG.choice([-1, 1], (128, 128, 3))).astype(np.uint8)
    assert np.array_equal(decoded(encode_flat_webp(signs)), signs)
    assert len(encode_flat_webp(signs)) < 0.6 * len(encode_webp(signs))
