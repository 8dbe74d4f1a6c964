"""Begins networks that hold a classifier of their own, which learns on from the shards' one."""

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from impure.manifests.base.canonical_json import canonical_json
from impure.pipeline.targets.target import Target
from impure.purifier.defences.base.parameters import Value
from impure.purifier.defences.trained.base.trainable import TrainableNetwork

N = TypeVar("N", bound=TrainableNetwork)


def build_for(kind: type[N], sizes: dict[str, Value], classifier: nn.Module | None) -> tuple[N, Target]:
    """A network with random weights whose size `card` describes the shards' classifier, and that classifier.

    Args:
        kind: The network, with a size `card`.
        sizes: Its other sizes.
        classifier: What `TrainableNetwork.begin` is given.

    Raises:
        InputError: A size is out of range.
    """
    if not isinstance(classifier, Target):
        raise TypeError(f"{type(classifier).__name__} is no target")
    build: Callable[..., N] = kind  # each has its own arguments
    return build(**{**sizes, "card": canonical_json(classifier.card)}), classifier
