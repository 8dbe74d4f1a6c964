"""What a network needs to be trained by impure-train: its sizes, its data, its loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, Self

from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.weights import load_strictly
from impure.purifier.defences.base.parameters import Value, parameters_of

LearnsFrom = Literal["pairs", "clean"]
Features = Callable[[Tensor], list[Tensor]]
"""RGB in [0,1] (B, 3, H, W) in; out come a frozen network's outputs at chosen nodes, or its logits alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDefault:
    """The frozen network that a loss needs where the user names none.

    Attributes:
        network: As `--features` takes it; "" for the classifier that the shards were made on.
        nodes: Its layers; none for the logits.
    """

    network: str = ""
    nodes: tuple[str, ...] = ()

    def nodes_of(self, network: str) -> tuple[str, ...]:
        """The nodes where the user names only a network, or nothing: another network has others."""
        return self.nodes if network in ("", self.network) else ()


class TrainingImages(NamedTuple):
    """A micro-batch on the device, RGB in [0,1].

    Attributes:
        adversarial: (B, 3, h, w).
        clean: Each distinct clean image once (U, 3, h, w).
        clean_row: Row of `clean` that belongs to each adversarial image (B,), int64.
        labels: True classes (B,), int64; -1 of photographs without.
    """

    adversarial: Tensor
    clean: Tensor
    clean_row: Tensor
    labels: Tensor


class TrainableNetwork(nn.Module, ABC):
    """A network that impure-train trains.

    Its sizes are keyword-only arguments of its constructor with plain defaults (the paper's), each checked
    there, with an upper bound, since a stranger's config.json may name them, and kept as attributes.

    Attributes:
        name: In config.json.
        learns_from: Pairs of attacked and clean images, or clean images alone.
        loss_names: Of what `losses` returns, "loss" first.
        features: The frozen network that its loss needs; None for none.
        multiple: Both sides of training crops are multiples of this many pixels.
        first_stage: The network whose runs `--init` takes, where it is another.
    """

    name: ClassVar[str]
    learns_from: ClassVar[LearnsFrom] = "pairs"
    loss_names: ClassVar[tuple[str, ...]] = ("loss",)
    features: ClassVar[FeatureDefault | None] = None
    multiple: int = 1
    first_stage: ClassVar["type[TrainableNetwork] | None"] = None

    @classmethod
    def begin(cls, sizes: dict[str, Value], classifier: nn.Module | None) -> Self:
        """A network to be trained, with random weights; one that begins as the classifier overrides this.

        Args:
            sizes: In place of the constructor's defaults.
            classifier: The frozen network of `features`, if it has one.
        """
        build: Callable[..., Self] = cls  # each has its own arguments
        return build(**sizes)

    def sizes(self) -> dict[str, Value]:
        """The constructor's arguments, for config.json."""
        return {name: getattr(self, name) for name in parameters_of(type(self))}

    def take(self, network: "TrainableNetwork", where: str) -> None:
        """Begin with the weights of a trained network, that of `first_stage` or the same.

        Raises:
            InputError: It has other sizes; the message begins with `where`.
        """
        if network.sizes() != self.sizes():
            raise InputError(f"{where}: has sizes {network.sizes()}; here they are {self.sizes()}")
        load_strictly(self, network.state_dict(), where)

    @abstractmethod
    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """Losses (k,) in the order of `loss_names`; the first is minimised.

        Args:
            images: What is learnt from.
            generator: Of all random numbers, on the images' device.
            features: The frozen network, for a loss that needs one.
        """
