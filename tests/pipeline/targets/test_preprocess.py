import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from timm import list_pretrained
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.models import get_pretrained_cfg
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.load import timm_card
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


def timm_data_configs():
    """The preprocessing of every timm model with weights, each kind once."""
    kinds = {}
    for name in list_pretrained():
        config = resolve_data_config({}, pretrained_cfg=get_pretrained_cfg(name).to_dict())
        kinds.setdefault(repr(sorted(config.items())), config)
    return list(kinds.values())


def is_square(config):
    return config["input_size"][1] == config["input_size"][2]


@pytest.mark.parametrize("turned", [False, True])
def test_preparing_is_timms_own_transform_for_all_its_classifiers(turned):
    photo = Image.fromarray(NOISE.transpose(1, 0, 2).copy() if turned else NOISE)
    configs = list(filter(is_square, timm_data_configs()))
    assert {config["crop_mode"] for config in configs} == {"center", "squash", "border"}
    assert any(config["crop_pct"] > 1 for config in configs)
    for config in configs:
        expected = create_transform(**config, is_training=False, normalize=False)(photo)
        pixels = prepare(photo, timm_card("t", "t", config))
        assert np.array_equal(pixels, expected.permute(1, 2, 0).numpy()), config


def test_preprocessing_that_no_card_can_say_is_refused():
    configs = [config for config in timm_data_configs() if not is_square(config)]
    assert configs
    for config in [*configs, {**configs[0], "input_size": (1, 224, 224)}]:
        with pytest.raises(InputError, match=r"timm:t: only square RGB"):
            timm_card("t", "t", config)
