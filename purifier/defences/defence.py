"""What every defence is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Defence(nn.Module, ABC):
    """[0,1] RGB (B, 3, H, W) in, the same out."""

    def reseed(self, seed: int, *, alike: bool = False) -> None:
        """Begin the random numbers anew; nothing to do for a defence without any.

        Args:
            seed: The same seed gives the same numbers.
            alike: From now on all images of a batch get the same numbers, so that what becomes of an image
                depends on no other: it may stand in any row of any batch. Otherwise each gets its own.
        """

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Defended images."""
