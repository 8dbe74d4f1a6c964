"""A classifier's logits, and one clear line where it cannot take images of that size."""

from collections.abc import Callable

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.targets.target import Target

Classifier = Callable[[Tensor], Tensor]
"""RGB in [0,1] (B, 3, H, W) in, logits (B, classes) out."""


def classify(classifier: Classifier, images: Tensor) -> Tensor:
    """Logits (B, classes) of [0,1] RGB images (B, 3, H, W).

    Raises:
        InputError: The classifier is a target built for one size, such as a ViT, and the images, which a
            defence enlarged or training cropped, have another.
    """
    try:
        return classifier(images)
    except (RuntimeError, ValueError, AssertionError) as error:
        if _is_usual(classifier, images) or isinstance(error, torch.OutOfMemoryError):
            raise
        height, width = images.shape[2:]
        raise InputError(
            f"a target of one size was given images of {width} x {height} pixels ({first_line(error)}); "
            "leave out defences that change the size, such as 'random', or train with another --crop"
        ) from error


def _is_usual(classifier: Classifier, images: Tensor) -> bool:
    """Whether the images have the size that the classifier is made for, as far as that is known."""
    return not isinstance(classifier, Target) or list(images.shape[2:]) == [classifier.card.input_size] * 2
