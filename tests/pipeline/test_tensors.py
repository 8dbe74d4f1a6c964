import numpy as np
import torch

from impure.pipeline.tensors import to_float, to_pixels, to_tensor, to_uint8

LEVELS = torch.arange(256, dtype=torch.uint8)


def test_pixels_and_tensors_convert_both_ways():
    pixels = list(np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8))
    batch = to_tensor(pixels, torch.device("cpu"))
    assert batch.shape == (2, 3, 5, 7)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert all(np.array_equal(*pair) for pair in zip(to_pixels(batch), pixels, strict=True))


def test_every_level_survives_the_way_through_floats():
    floats = to_float(LEVELS)
    assert floats.dtype == torch.float32
    assert (floats[0], floats[-1]) == (0, 1)
    assert torch.equal(to_uint8(floats), LEVELS)


def test_floats_are_rounded_to_the_nearest_level_and_never_wrap():
    images = torch.tensor([-0.1, 0.4 / 255, 0.6 / 255, 1.1, 254.6 / 255], requires_grad=True)
    levels = to_uint8(images)
    assert levels.tolist() == [0, 0, 1, 255, 255]
    assert not levels.requires_grad
