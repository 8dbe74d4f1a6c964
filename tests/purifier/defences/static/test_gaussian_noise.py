import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.purifier.defences.static.gaussian_noise import GaussianNoise


def test_its_l2_is_that_of_random_signs() -> None:
    grey = torch.full((2, 3, 100, 100), 0.5)
    noise = GaussianNoise(eps=8)(grey) - grey
    signs = 8 / 255 * (torch.randint(0, 2, grey.shape) * 2.0 - 1)
    assert noise.norm() == pytest.approx(float(signs.norm()), rel=0.02)
    assert noise.std() == pytest.approx(8 / 255, rel=0.02) and abs(noise.mean()) < 5e-4
    within = (noise.abs() < 8 / 255).float().mean()
    assert within == pytest.approx(0.6827, abs=0.01)  # of a normal distribution


def test_equals_the_closed_form_and_clips() -> None:
    images = torch.rand(2, 3, 6, 7)
    for alike, rows in ((False, 2), (True, 1)):
        defence = GaussianNoise(eps=64)
        defence.reseed(5, alike=alike)
        noise = torch.randn(rows, 3, 6, 7, generator=torch.Generator().manual_seed(5))
        wanted = (images + 64 / 255 * noise).clamp(0, 1)
        assert torch.equal(defence(images), wanted) and {0.0, 1.0} <= set(wanted.flatten().tolist())


@pytest.mark.parametrize("eps", [-1, 256, torch.nan])
def test_sizes_that_make_no_sense(eps: float) -> None:
    with pytest.raises(InputError, match=r"'gaussian-noise': eps is .*; it must be between 0 and 255"):
        GaussianNoise(eps=eps)
    assert torch.equal(GaussianNoise(eps=0)(torch.ones(1, 3, 2, 2)), torch.ones(1, 3, 2, 2))
