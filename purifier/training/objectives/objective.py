"""The interface between the training step and what it trains: a network and its loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Generator, Tensor, nn

from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.trained.base.trainable import TrainingImages


class Objective(ABC):
    """A network and its loss.

    Attributes:
        loss_names: Of what `losses` returns, "loss" first.
        model: What learns, and what a checkpoint holds.
        trained: The module whose forward pass `losses` goes through; DDP and the compiler wrap it.
        frozen: Networks that the loss needs; they do not learn.
        multiple: Both sides of training crops are multiples of this many pixels.
    """

    loss_names: tuple[str, ...]
    model: nn.Module
    trained: nn.Module
    frozen: tuple[nn.Module, ...]
    multiple: int

    @abstractmethod
    def describe(self) -> Mapping[str, Any]:
        """What config.json says of the network, so that it can be built again."""

    def begin_update(self, update: int, progress: float) -> None:  # noqa: B027 - most have nothing to do
        """Hear which update comes next; nothing to do where all are alike.

        Args:
            update: Its number since the beginning, from 0.
            progress: Share of the run that is done, in [0, 1).
        """

    @abstractmethod
    def losses(self, network: nn.Module, images: TrainingImages, generator: Generator) -> Tensor:
        """Losses (k,), the first of which is minimised.

        Args:
            network: `trained`, perhaps wrapped.
            images: What is learnt from.
            generator: Of all random numbers, on the images' device.
        """

    @abstractmethod
    def decays(self, name: str, weight: Tensor) -> bool:
        """Whether weight decay pulls at a parameter."""

    @abstractmethod
    def defence(self, model: nn.Module) -> Defence:
        """What stands before a classifier in validation; `model` may be the average of its weights."""

    @abstractmethod
    def begin_with(self, weights: Path) -> Mapping[str, Any]:
        """Take initial weights; returns what config.json shall say of them.

        Raises:
            InputError: They cannot be read, or are of another network.
        """
