"""Consistency purification: Gaussian noise, and one step that takes it off again."""

import torch
from torch import Tensor
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.ddpm import DDPM
from impure.purifier.defences.diffusion.diffusion_defence import DiffusionDefence
from impure.purifier.defences.diffusion.one_step_denoiser import OneStepDenoiser
from impure.purifier.defences.diffusion.resizing import resize


class ConsistencyPurification(DiffusionDefence):
    """Adds N(0, σ²) to images in [0, 1] and lets a model take it off in one step.

    With a consistency model that is Consistency Purification (Chen et al. 2024, arXiv:2407.00623); with a
    DDPM it is the one-step denoiser of Carlini et al. 2023 (arXiv:2206.10550), not the paper's. No bound on
    L∞ comes of it: `smoothing.certify` gives radii in L2. Images are resized to the model's square, after
    the noise, and back. Exact gradient.
    """

    source = "Chen et al. 2024, arXiv:2407.00623; with a DDPM Carlini et al. 2023, arXiv:2206.10550"
    threat_model = "white-box"

    def __init__(self, network: DDPM | OneStepDenoiser, *, sigma: float = 0.25) -> None:
        """Put the model in eval mode.

        Args:
            network: A `ConsistencyModel`, a `DDPM` or a `NoisePredictor`.
            sigma: Standard deviation of the noise, for images in [0, 1]: the papers' 0.25, 0.5 or 1.

        Raises:
            InputError: `sigma` is out of its range.
        """
        super().__init__()
        if not 0.01 <= sigma <= 10:
            raise InputError(f"defence 'consistency': sigma is {sigma}; it must be from 0.01 to 10")
        self.model: OneStepDenoiser = network.model if isinstance(network, DDPM) else network
        self.model.eval()
        self.sigma = sigma

    def defend(self, images: Tensor) -> Tensor:
        """Return noisy images, denoised."""
        noise = self.normal(self.rows(images), *images.shape[1:]).to(images)
        side = self.model.size
        noisy = resize(2 * (images + self.sigma * noise) - 1, (side, side))
        height, width = images.shape[2:]
        kept = _kept_noise(height, side) * _kept_noise(width, side)
        clean = self.model.denoise(noisy, 2 * self.sigma * kept)  # twice: from [0, 1] to [-1, 1]
        return resize((clean + 1) / 2, (height, width)).clamp(0, 1)


def _kept_noise(side: int, new_side: int) -> float:
    """The factor by which resizing one side changes the standard deviation of independent noise."""
    weights = F.interpolate(
        torch.eye(side, dtype=torch.float64)[None, None], (new_side, side), mode="bilinear", antialias=True
    )
    return float(weights.square().sum(3).mean().sqrt())
