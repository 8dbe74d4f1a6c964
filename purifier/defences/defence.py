"""The interface of every defence: images in, images out."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.tensors import check_images


class Defence(nn.Module, ABC):
    """A module from RGB images in [0,1] (B, 3, H, W) to the same, in shape, type and range.

    A subclass implements `defend`, and where it is random, `reseed`. Its docstring names the paper, and says
    whether gradients are exact, straight-through (that of the identity) or missing.
    """

    @property
    def is_random(self) -> bool:
        """Whether two passes may differ: whether it has a `reseed` of its own."""
        return type(self).reseed is not Defence.reseed

    def reseed(self, seed: int, *, alike: bool = False) -> None:
        """Begin the random numbers anew; nothing to do for a defence without any.

        Args:
            seed: The same seed gives the same numbers.
            alike: From now on all images of a batch get the same numbers, so that what becomes of an image
                depends on no other: it may stand in any row of any batch. Otherwise each gets its own.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Check the images' shape and type, and defend them.

        Raises:
            InputError: They are no floating-point RGB images (B, 3, H, W).
        """
        check_images(images)
        if images.shape[1] != 3:
            raise InputError(f"a defence takes RGB images (B, 3, H, W); these are {tuple(images.shape)}")
        return self.defend(images)

    @abstractmethod
    def defend(self, images: Tensor) -> Tensor:
        """Return defended images, [0,1] RGB (B, 3, H, W) in the images' type and on their device."""
