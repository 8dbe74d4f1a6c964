"""Wavelet denoising with super-resolution: its steps, its switches, its gradient, its weights."""

from pathlib import Path

import pytest
import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.static.jpeg import Jpeg
from impure.purifier.defences.static.wavelet_denoising import denoise
from impure.purifier.defences.trained.edsr import EDSR
from impure.purifier.defences.trained.wavelet_sr import WaveletSR

IMAGES = torch.rand(2, 3, 12, 17, generator=Generator().manual_seed(0), dtype=torch.float64)


def network() -> EDSR:
    torch.manual_seed(0)
    return EDSR(blocks=1, width=4).double()


@torch.no_grad()
def test_its_steps_and_switches() -> None:
    made = network()
    doubled = made(denoise(IMAGES, 0.01)).clamp(0, 1)
    assert torch.equal(WaveletSR(made)(IMAGES), doubled) and doubled.shape == (2, 3, 24, 34)
    assert torch.equal(WaveletSR(made, sigma=0.2)(IMAGES), made(denoise(IMAGES, 0.2)).clamp(0, 1))
    saved = made(Jpeg(quality=75)(denoise(IMAGES, 0.01))).clamp(0, 1)
    assert torch.equal(WaveletSR(made, jpeg=True)(IMAGES), saved)
    back = WaveletSR(made, back=True)(IMAGES)
    assert back.shape == IMAGES.shape
    assert torch.allclose(back[:, :, 3, 5], _triangle(doubled, 3, 5))


def _triangle(doubled: Tensor, row: int, column: int) -> Tensor:
    """Bilinear halving with antialias, inside of an image: weights 1, 3, 3, 1 along each axis."""
    weights = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    window = doubled[:, :, 2 * row - 1 : 2 * row + 3, 2 * column - 1 : 2 * column + 3]
    return torch.einsum("bcij,i,j->bc", window, weights, weights)


def test_the_gradient_is_the_network_s_at_the_denoised_image() -> None:
    made, images = network(), IMAGES.clone().requires_grad_()
    weight = torch.randn(2, 3, 24, 34, generator=Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((WaveletSR(made)(images) * weight).sum(), images)
    denoised = denoise(IMAGES, 0.01).requires_grad_()
    (wanted,) = torch.autograd.grad((made(denoised).clamp(0, 1) * weight).sum(), denoised)
    assert gradient.any() and torch.allclose(gradient, wanted)


def test_published_weights_are_given_by_their_file(tmp_path: Path) -> None:
    made, file = network().float(), tmp_path / "edsr_baseline_x2.pt"
    torch.save(made.state_dict(), file)
    images = IMAGES.float()
    with torch.no_grad():
        defended = WaveletSR.from_weights(str(file), sigma=0.02)(images)
        assert torch.equal(defended, WaveletSR(made, sigma=0.02)(images))
    with pytest.raises(InputError, match="no checkpoint there"):
        WaveletSR.from_weights(str(tmp_path / "missing.pt"))
    with pytest.raises(InputError, match="sigma is -1.0"):
        WaveletSR.from_weights(str(file), sigma=-1.0)
