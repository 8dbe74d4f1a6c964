"""A consistency model: a network that takes an image of any noise level to a clean one at once."""

import math

import torch
from torch import Tensor, nn

from impure.purifier.defences.diffusion.one_step_denoiser import OneStepDenoiser


class ConsistencyModel(OneStepDenoiser):
    """Song et al. 2023 (arXiv:2303.01469), Eq. 5, with its appendix C's scalings, as diffusers has it."""

    def __init__(
        self, unet: nn.Module, size: int, *, sigma_data: float = 0.5, sigma_min: float = 0.002
    ) -> None:
        """Put parts together.

        Args:
            unet: diffusers' `UNet2DModel`.
            size: Height = width in pixels of the images that it was trained on.
            sigma_data: Standard deviation of the images that it was trained on, in [-1, 1] scale.
            sigma_min: Least noise level, at which it is the identity.
        """
        super().__init__()
        self.unet = unet
        self.size = size
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min

    def denoise(self, noisy: Tensor, sigma: float) -> Tensor:
        """See `OneStepDenoiser`; σ is at least `sigma_min`."""
        variance = sigma**2 + self.sigma_data**2
        step = torch.tensor([250 * math.log(sigma)], device=noisy.device)  # diffusers' time embedding
        output: Tensor = self.unet(noisy / variance**0.5, step).sample[:, :3]
        above = sigma - self.sigma_min
        skip = self.sigma_data**2 / (above**2 + self.sigma_data**2)
        scale = above * self.sigma_data / math.sqrt(variance)
        return (scale * output + skip * noisy).clamp(-1, 1)
