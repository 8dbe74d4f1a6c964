"""The purifier as a defence."""

import torch
from torch import Generator, Tensor

from impure.purifier.defences.base import Defence
from impure.purifier.riae import RIAE


class Riae(Defence):
    """`RIAE.purify` with one draw and uniform dividing; the noise goes on from image to image."""

    def __init__(self, riae: RIAE, seed: int = 0) -> None:
        super().__init__()
        self.riae = riae.eval()
        self._seed = seed
        self._generator: Generator | None = None

    def reseed(self, seed: int) -> None:
        """Begin the noise anew."""
        self._seed, self._generator = seed, None

    def forward(self, images: Tensor) -> Tensor:
        """Purified images."""
        if self._generator is None or self._generator.device != images.device:
            self._generator = torch.Generator(images.device).manual_seed(self._seed)
        return self.riae.purify(images, seed=self._generator)
