"""What every defence is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Defence(nn.Module, ABC):
    """[0,1] RGB (B, 3, H, W) in, the same out."""

    def reseed(self, seed: int) -> None:
        """Begin the random draws anew; nothing to do for a defence without any."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Defended images."""
