"""The base of defences whose network impure-train trains."""

from abc import ABC
from typing import ClassVar

from torch import nn

from impure.purifier.defences.base.defence import TrainedDefence
from impure.purifier.defences.trained.base.trainable import TrainableNetwork
from impure.purifier.defences.trained.base.trained_weights import load_network


class NetworkDefence(TrainedDefence, ABC):
    """A defence around a network that impure-train trains: its constructor takes that network first."""

    network_kind: ClassVar[type[TrainableNetwork]]

    @classmethod
    def load(cls, weights: str) -> nn.Module:
        """Read a run of impure-train; see `TrainedDefence.load`."""
        return load_network(weights, cls.network_kind)
