"""The interface of what takes noise off an image at once."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class OneStepDenoiser(nn.Module, ABC):
    """A model of square images.

    Attributes:
        size: Height = width in pixels of the images that it was trained on.
    """

    size: int

    @abstractmethod
    def denoise(self, noisy: Tensor, sigma: float) -> Tensor:
        """An image within [-1, 1] from x + σ ε (B, 3, size, size), with ε ~ N(0, I)."""
