"""Wavelet denoising against scikit-image's whole call, a written-out transform and the measured figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import rgb2ycbcr
from skimage.restoration import denoise_wavelet
from torch import Tensor
from torchvision.transforms import functional as TF

from impure.purifier.defences.static.wavelet_denoising import denoise

PHOTOGRAPHS = Path(__file__).parents[5] / "shared" / "imagenette"


def wave(height: int, width: int) -> Tensor:
    """A picture by formula, in all colours, with fine and coarse detail (1, 3, height, width)."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None]
    planes = [torch.sin(0.9 * rows * (1 + k) + 0.4 * columns + k * rows * columns / 7) for k in range(3)]
    return (0.5 + 0.3 * torch.stack(planes))[None].double()


@pytest.mark.parametrize("sigma", [0.01, 0.04, None])
@pytest.mark.parametrize("size", [(64, 64), (37, 50)])
def test_equals_scikit_images_own_loop_given_sigma_in_units_of_each_channel(
    sigma: float | None, size: tuple[int, int]
) -> None:
    images = wave(*size)
    pixels = images[0].permute(1, 2, 0).numpy()
    spreads = np.ptp(rgb2ycbcr(pixels), axis=(0, 1))
    sigmas = None if sigma is None else [sigma * spread for spread in spreads]
    wanted = denoise_wavelet(pixels, sigmas, convert2ycbcr=True, rescale_sigma=False, channel_axis=-1)
    denoised = denoise(images, sigma)[0].permute(1, 2, 0).numpy()
    assert np.allclose(denoised, wanted.clip(0, 1), atol=1e-12)
    assert not np.allclose(denoised, pixels, atol=1e-4)


def test_one_haar_level_written_out() -> None:
    """Grey 2 x 2 blocks, so that a single level of one channel is left: soft thresholds by BayesShrink."""
    blocks = torch.tensor([[0.10, 0.30, 0.55, 0.50], [0.20, 0.25, 0.70, 0.90]], dtype=torch.float64)
    low, spread = blocks.min(), blocks.max() - blocks.min()
    x = ((blocks - low) / spread).reshape(2, 2, 2).transpose(0, 1)  # block, row, column
    a, b, c, d = x[:, 0, 0], x[:, 0, 1], x[:, 1, 0], x[:, 1, 1]
    bands = [(a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2]
    variance = 0.15**2
    rows, columns, cross = (
        band.sign() * (band.abs() - variance / (band.square().mean() - variance).clamp(2e-16).sqrt()).clamp(0)
        for band in bands
    )
    mean = (a + b + c + d) / 2
    wanted = torch.stack(
        [mean + rows + columns + cross, mean + rows - columns - cross]
        + [mean - rows + columns - cross, mean - rows - columns + cross],
        dim=1,
    ).reshape(2, 2, 2).transpose(0, 1).reshape(2, 4) / 2 * spread + low  # fmt: skip
    images = blocks.expand(1, 3, 2, 4)
    assert torch.allclose(denoise(images, 0.15), wanted.expand(1, 3, 2, 4), atol=1e-6)


def test_pinned_values() -> None:
    images = wave(24, 24)
    pinned = {
        0.01: [0.754643, 0.796843, 0.234047, 0.259099, 0.77575, 0.543536],
        0.04: [0.747055, 0.802974, 0.238992, 0.267126, 0.77255, 0.543043],
        None: [0.594951, 0.743438, 0.542841, 0.485922, 0.621615, 0.335432],
    }
    for sigma, values in pinned.items():
        denoised = denoise(images, sigma)[0, :, 5, 7:9].flatten()
        assert torch.allclose(denoised, torch.tensor(values).double(), atol=1e-6)


@pytest.mark.parametrize("sigma", [0.04, None])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (3, 1)])
def test_where_there_is_nothing_to_shrink_the_image_stays(sigma: float | None, size: tuple[int, int]) -> None:
    constant = torch.full((1, 3, *size), 0.25)
    assert torch.allclose(denoise(constant, sigma), constant, atol=1e-6)
    stripes = torch.linspace(0, 1, size[1]).expand(1, 3, *size)  # no diagonal detail: no noise is estimated
    assert denoise(stripes, sigma).isfinite().all()
    assert torch.allclose(denoise(stripes, None), stripes, atol=1e-6)


def test_colours_beyond_the_cube_are_clipped() -> None:
    denoised = denoise(torch.rand(1, 3, 32, 32).round().double(), 0.2)
    assert denoised.min() == 0 and denoised.max() == 1
    assert (denoised == 0).sum() + (denoised == 1).sum() > 100


def test_an_image_is_independent_of_its_batch_and_the_gradient_is_the_identitys() -> None:
    images = torch.rand(3, 3, 20, 20, dtype=torch.float32).requires_grad_()
    denoised = denoise(images, 0.04)
    assert denoised.dtype == torch.float32
    assert torch.equal(denoised[1:2], denoise(images[1:2], 0.04))
    (gradient,) = torch.autograd.grad(denoised.sum(), images)
    assert torch.equal(gradient, torch.ones_like(images))


@pytest.mark.real
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no photographs beside the checkout")
def test_measured_figures_on_eight_photographs() -> None:
    """Mean errors by noise of ±16/255, in 1/255: 15.1 before; 11.9, 14.9 and (σ estimated) 6.3 after."""
    files = [sorted(folder.iterdir())[0] for folder in sorted((PHOTOGRAPHS / "val").iterdir())[:8]]
    pictures = [TF.center_crop(TF.resize(Image.open(file).convert("RGB"), 256), [224, 224]) for file in files]
    clean = torch.stack([TF.to_tensor(picture) for picture in pictures])
    signs = torch.randint(0, 2, clean.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noisy = (clean + signs * 16 / 255).clamp(0, 1)
    after = {sigma: (denoise(noisy, sigma) - clean).abs().mean() * 255 for sigma in (0.04, 0.01, None)}
    assert (noisy - clean).abs().mean() * 255 == pytest.approx(15.1, abs=0.5)
    assert after[0.04] == pytest.approx(11.92, abs=0.3)
    assert after[0.01] == pytest.approx(14.93, abs=0.5)
    assert after[None] == pytest.approx(6.3, abs=0.3)
    assert (denoise(clean, 0.04) - clean).abs().mean() * 255 == pytest.approx(3.90, abs=0.5)
