"""What random defences share: a generator of their own."""

import torch
from torch import Generator, Tensor

from impure.purifier.defences.base.defence import Defence


class RandomDefence(Defence):
    """Draws from a generator on the CPU, so that a seed means the same on every device."""

    def __init__(self) -> None:
        super().__init__()
        self.reseed(0)

    def reseed(self, seed: int, *, alike: bool = False) -> None:
        """Begin the random numbers anew; see `Defence.reseed`."""
        self._generator = Generator().manual_seed(seed)
        self._alike = alike

    def rows(self, images: Tensor) -> int:
        """For how many images numbers are drawn: for each, or once for all."""
        return 1 if self._alike else len(images)

    def normal(self, *shape: int) -> Tensor:
        """Numbers from the standard normal distribution, float32."""
        return torch.randn(shape, generator=self._generator)

    def integers(self, least: Tensor, most: Tensor) -> Tensor:
        """Whole numbers drawn uniformly from `least` to `most`, both included; int64, in their shape."""
        least, most = torch.broadcast_tensors(least, most)
        drawn = torch.rand(least.shape, generator=self._generator, dtype=torch.float64)
        return least + (drawn * (most - least + 1)).long()
