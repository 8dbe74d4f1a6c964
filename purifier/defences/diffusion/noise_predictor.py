"""A diffusion model that predicts noise, and what follows from its prediction."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.one_step_denoiser import OneStepDenoiser

Prediction = Literal["epsilon", "sample", "v_prediction"]  # diffusers' names


class NoisePredictor(OneStepDenoiser):
    """A UNet, and the noise schedule that it was trained with.

    Images here lie in [-1, 1]. With ε ~ N(0, I), step t (counted from 0) makes
    x_t = sqrt(ᾱ_t) x + sqrt(1 - ᾱ_t) ε of an image x (Ho et al. 2020, arXiv:2006.11239, Eq. 4).
    """

    def __init__(
        self, unet: nn.Module, signal: Sequence[float], size: int, prediction: Prediction = "epsilon"
    ) -> None:
        """Put parts together.

        Args:
            unet: diffusers' `UNet2DModel`, or what is called like one: (images, step) to an object whose
                `sample` is the prediction. Channels beyond the third (learned variances) are not looked at.
            signal: ᾱ_t of every step.
            size: Height = width in pixels of the images that it was trained on.
            prediction: What the UNet predicts: the noise ε, the image x, or v = sqrt(ᾱ) ε - sqrt(1 - ᾱ) x.

        Raises:
            InputError: `prediction` is unknown.
        """
        super().__init__()
        if prediction not in get_args(Prediction):
            names = ", ".join(get_args(Prediction))
            raise InputError(f"diffusion model: it predicts {prediction!r:.40}; choose from {names}")
        self.unet = unet
        self.signal = tuple(float(share) for share in signal)
        self.size = size
        self.prediction = prediction

    def clean(self, noisy: Tensor, step: int) -> Tensor:
        """The image x, within [-1, 1], that a noisy one x_t (B, 3, size, size) is predicted to come from."""
        left, added = self.signal[step] ** 0.5, (1 - self.signal[step]) ** 0.5
        output: Tensor = self.unet(noisy, step).sample[:, :3]
        if self.prediction == "epsilon":
            output = (noisy - added * output) / left
        elif self.prediction == "v_prediction":
            output = left * noisy - added * output
        return output.clamp(-1, 1)

    def denoise(self, noisy: Tensor, sigma: float) -> Tensor:
        """See `OneStepDenoiser`; by the step whose noise is nearest to σ.

        Carlini et al. 2023 (arXiv:2206.10550), Algorithm 1.
        """
        step = self.step_of(sigma)
        return self.clean(self.signal[step] ** 0.5 * noisy, step)

    def step_of(self, sigma: float) -> int:
        """The step whose ratio of noise to image, sqrt((1 - ᾱ_t) / ᾱ_t), is nearest to σ in [-1, 1] scale."""
        shares = torch.tensor(self.signal, dtype=torch.float64)
        return int((((1 - shares) / shares).sqrt() - sigma).abs().argmin())
