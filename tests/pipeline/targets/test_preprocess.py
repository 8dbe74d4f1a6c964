import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.preprocess import prepare

NOISE = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_preparing_is_torchvisions_resize_and_centre_crop(builtin_target, interpolation):
    card = dataclasses.replace(
        builtin_target.card, resize=72, crop=64, input_size=64, interpolation=interpolation
    )
    photo = Image.fromarray(NOISE)
    expected = Compose([Resize(72, InterpolationMode(interpolation)), CenterCrop(64)])(photo)
    assert np.array_equal(prepare(photo, card), np.asarray(expected))


def test_without_antialias_pixels_are_picked_not_averaged(builtin_target):
    card = dataclasses.replace(
        builtin_target.card, resize=64, crop=64, input_size=64, interpolation="bilinear", antialias=False
    )
    raw = torch.from_numpy(NOISE).permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(raw, (64, int(64 * 140 / 90)), mode="bilinear", antialias=False)
    left = round((scaled.shape[-1] - 64) / 2)
    expected = scaled[0, :, :, left : left + 64].permute(1, 2, 0).numpy()
    assert np.abs(prepare(Image.fromarray(NOISE), card) - expected).max() <= 1


def test_a_picture_too_long_to_resize_is_refused(builtin_target):
    with pytest.raises(InputError, match="60000x1 pixels"):
        prepare(Image.new("RGB", (60_000, 1)), builtin_target.card)
