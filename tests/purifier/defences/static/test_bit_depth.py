import numpy as np
import pytest
import torch
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.purifier.defences.static.bit_depth import BitDepth


@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_every_byte_goes_to_the_nearest_of_evenly_spaced_levels(bits: int) -> None:
    levels = np.arange(2**bits) / (2**bits - 1)
    images = (torch.arange(256) / 255).expand(1, 3, 1, 256)
    nearest = np.abs(np.arange(256)[:, None] / 255 - levels).argmin(1)
    assert np.allclose(BitDepth(bits=bits)(images)[0, 1, 0].numpy(), levels[nearest], atol=1e-7)


def test_one_bit_is_pillows_threshold() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(pixels).point(lambda value: 255 * (value >= 128)))
    images = torch.from_numpy(pixels / 255).float().expand(1, 3, 9, 11)
    assert np.array_equal((BitDepth(bits=1)(images)[0, 0] * 255).numpy(), wanted)


def test_the_gradient_passes_straight_through() -> None:
    images = torch.rand(2, 3, 4, 4).requires_grad_()
    weight = torch.randn(2, 3, 4, 4)
    (gradient,) = torch.autograd.grad((BitDepth()(images) * weight).sum(), images)
    assert torch.equal(gradient, weight)


@pytest.mark.parametrize("bits", [0, 9])
def test_depths_that_bytes_do_not_have(bits: int) -> None:
    with pytest.raises(InputError, match=f"'bit-depth': bits is {bits}; it must be between 1 and 8"):
        BitDepth(bits=bits)
