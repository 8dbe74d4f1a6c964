"""ImageNet's 1000 classes."""

from functools import cache

from timm.data.imagenet_info import ImageNetInfo


@cache
def imagenet_wnids() -> tuple[str, ...]:
    """The wnids of ImageNet's 1000 classes, in label order."""
    return tuple(ImageNetInfo().label_names())
