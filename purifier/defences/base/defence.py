"""The interface of every defence: images in, images out."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Literal, Self

from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.tensors import check_images
from impure.purifier.defences.base.classify import Classifier, classify
from impure.purifier.defences.base.parameters import parameters_of

Gradient = Literal["exact", "straight-through", "none"]


class Defence(nn.Module, ABC):
    """A module from RGB images in [0,1] (B, 3, H, W) to the same, in shape, type and range.

    A subclass implements `defend`, and where it is random, `reseed`. Its parameters are keyword-only
    arguments of its constructor, numbers or texts with the paper's values as defaults.

    Attributes:
        source: Who published it.
        gradient: `exact`; `straight-through`, that of the identity where a step has none; or `none`.
        threat_model: What its authors evaluated it against: `black-box` attacks on the bare classifier, or
            `white-box` ones that knew of it.
        keeps_size: Whether the defended images have the size of the given ones; the classifier is shown what
            comes out.
        extra: The extra of this distribution that brings the packages it needs; empty for none.
    """

    source: ClassVar[str] = ""
    gradient: ClassVar[Gradient] = "exact"
    threat_model: ClassVar[str] = "black-box"
    keeps_size: ClassVar[bool] = True
    extra: ClassVar[str] = ""

    @property
    def is_random(self) -> bool:
        """Whether two passes may differ: whether it has a `reseed` of its own."""
        return type(self).reseed is not Defence.reseed

    @property
    def can_average(self) -> bool:
        """Whether the mean of draws is an image again: enlarged at random, each lies elsewhere."""
        return self.keeps_size or not self.is_random

    @property
    def settings(self) -> dict[str, object]:
        """Its parameters in force, by name, as JSON can hold them."""
        return {name: getattr(self, name) for name in parameters_of(type(self)) if hasattr(self, name)}

    def reseed(self, seed: int, *, alike: bool = False) -> None:
        """Begin the random numbers anew; nothing to do for a defence without any.

        Args:
            seed: The same seed gives the same numbers.
            alike: From now on all images of a batch get the same numbers, so that what becomes of an image
                depends on no other: it may stand in any row of any batch. Otherwise each gets its own.
        """

    def forward(self, images: Tensor) -> Tensor:
        """Check the images' shape, type and values, and defend them; waits for the device.

        Raises:
            InputError: They are no floating-point RGB images (B, 3, H, W), or not finite.
        """
        check_images(images)
        if images.shape[1] != 3:
            raise InputError(f"a defence takes RGB images (B, 3, H, W); these are {tuple(images.shape)}")
        if not images.detach().isfinite().all():
            raise InputError("a defence takes images in [0, 1]; among these are NaN or infinite values")
        return self.defend(images)

    @abstractmethod
    def defend(self, images: Tensor) -> Tensor:
        """Return defended images, [0,1] RGB (B, 3, H, W) in the images' type and on their device."""

    def classify(self, defended: Tensor, classifier: Classifier) -> Tensor:
        """Logits (B, classes) of defended images: the classifier's, unless a defence brings its own.

        Raises:
            InputError: See `classify`.
        """
        return classify(classifier, defended)

    @property
    def detects(self) -> bool:
        """Whether it has detectors: whether it has a `rejects` of its own."""
        return type(self).rejects is not Defence.rejects

    def calibrate(self, clean: Iterable[Tensor], classifier: Classifier) -> None:
        """Set the thresholds of its detectors on batches of clean images; nothing to do without detectors."""

    def rejects(self, images: Tensor, classifier: Classifier) -> Tensor | None:
        """Which images (B,), bool, its detectors take for attacked; None where it has none."""
        return None


class TrainedDefence(Defence, ABC):
    """A defence around a trained network.

    A subclass's constructor takes the network first, then its parameters.
    """

    @classmethod
    @abstractmethod
    def load(cls, weights: str) -> nn.Module:
        """Read the network.

        Args:
            weights: A run's folder, a file, or a name on the Hugging Face Hub.

        Raises:
            InputError: It cannot be read, or is of another kind.
        """

    @classmethod
    def from_weights(cls, weights: str, **parameters: object) -> Self:
        """The defence with weights that are read, on the CPU.

        Raises:
            InputError: See `load`, or a parameter is impossible.
        """
        build: Callable[..., Self] = cls  # each has its own arguments
        return build(cls.load(weights), **parameters)
