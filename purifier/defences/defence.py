"""The interface of every defence: images in, images out."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.tensors import check_images


class Defence(nn.Module, ABC):
    """A module from RGB images in [0,1] (B, 3, H, W) to the same, in shape, type and range.

    A subclass implements `defend`, and where it is random, `reseed`.

    Attributes:
        source: The paper: "Xie et al. 2018, arXiv:1711.01991".
        gradient: Exact; straight-through (that of the identity, wholly or in the step without one); or none.
        keeps_size: Whether defended images are as large as the images. Where they are not, the classifier has
            to take them in another size, of which all images of a batch are.
    """

    source: ClassVar[str]
    gradient: ClassVar[Literal["exact", "straight-through", "none"]]
    keeps_size: ClassVar[bool] = True

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
