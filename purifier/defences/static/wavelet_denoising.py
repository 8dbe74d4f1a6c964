"""Wavelet denoising in the form that the papers of 2018 and 2019 used (Chang et al. 2000, BayesShrink)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from impure.purifier.defences.base.extras import needs_extra
from impure.purifier.defences.base.straight_through import straight_through

Plane = NDArray[np.float64]

_QUARTILE = 0.6744897501960817  # of the normal distribution: its median absolute deviation


def denoise(images: Tensor, sigma: float | None) -> Tensor:
    """Shrink the wavelet coefficients of every image by itself; straight-through gradient.

    YCbCr, each channel scaled to [0, 1] by its own extremes, Haar transform (`db1`) but for the three
    coarsest levels, soft thresholds by BayesShrink, scaled back. scikit-image changed what `denoise_wavelet`
    makes of `sigma` in version 0.16: today's call does not reproduce pixel deflection (arXiv:1801.08926) or
    wavelet denoising with super-resolution (arXiv:1901.01677), this does.

    Args:
        images: RGB in [0,1] (B, 3, H, W).
        sigma: Standard deviation of the noise, for channels scaled to [0, 1]; None: estimated for each
            channel from the median of its finest diagonal coefficients that are not zero (Donoho and
            Johnstone 1994).

    Returns:
        RGB clipped to [0,1] (B, 3, H, W), in the images' type.

    Raises:
        InputError: scikit-image or PyWavelets is not installed.
    """
    check_installed()
    pixels = images.detach().double().permute(0, 2, 3, 1).cpu().numpy()
    denoised = np.stack([_denoise_image(image, sigma) for image in pixels])
    return straight_through(images, torch.from_numpy(denoised).permute(0, 3, 1, 2).to(images))


def check_installed() -> None:
    """Make sure that the packages are there, before work begins.

    Raises:
        InputError: scikit-image or PyWavelets is not installed.
    """
    with needs_extra("wavelet denoising", "defences"):
        import pywt  # noqa: F401
        import skimage  # noqa: F401


def _denoise_image(image: Plane, sigma: float | None) -> Plane:
    """One image (H, W, 3)."""
    from skimage.color import rgb2ycbcr, ycbcr2rgb

    ycbcr = np.moveaxis(rgb2ycbcr(image), -1, 0)
    denoised = np.stack([_denoise_channel(channel, sigma) for channel in ycbcr], axis=-1)
    restored: Plane = ycbcr2rgb(denoised)
    return restored.clip(0, 1)


def _denoise_channel(channel: Plane, sigma: float | None) -> Plane:
    """One channel (H, W) of any range; where there is nothing to shrink, as it is."""
    import pywt
    from skimage.restoration import denoise_wavelet

    lowest, spread = float(channel.min()), float(np.ptp(channel))
    if spread == 0 or min(channel.shape) < 2:
        return channel
    scaled = (channel - lowest) / spread
    if sigma is None:
        sigma = _estimate(pywt.dwt2(scaled, "db1")[1][2])
    if sigma == 0:
        return channel
    denoised: Plane = denoise_wavelet(
        scaled, sigma=sigma, wavelet="db1", mode="soft", method="BayesShrink", rescale_sigma=False
    )
    return denoised * spread + lowest


def _estimate(diagonal: Plane) -> float:
    """The noise's standard deviation from diagonal coefficients; 0 where all are zero."""
    coefficients = diagonal[diagonal != 0]
    return float(np.median(np.abs(coefficients))) / _QUARTILE if coefficients.size else 0.0
