"""A target whose weights learn, in checkpoints that carry its card."""

import torch
from torch import Tensor, nn

from impure.manifests.base.canonical_json import canonical_json, from_mapping, parse_object
from impure.pipeline.targets.load import build_architecture
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import TargetCard, read_card
from impure.pipeline.targets.target_names import BUILTIN_CARD
from impure.pipeline.targets.weights import load_strictly


class TrainableTarget(nn.Module):
    """A classifier of RGB in [0,1] (B, 3, H, W): a card's architecture, its normalisation inside.

    Attributes:
        card: The card as JSON.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, card: str = "") -> None:
        """Build it with random weights.

        Args:
            card: See `TargetCard`, as JSON; empty for the built-in target's.

        Raises:
            InputError: It describes no classifier.
        """
        super().__init__()
        described = _read(card)
        self.card = canonical_json(described)
        self.network = build_architecture(
            described.architecture, described.num_classes, described.input_size, "card"
        )
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name in ("mean", "std"):
            values = torch.tensor(getattr(described, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def take(self, target: Target) -> None:
        """Begin with a target's weights.

        Raises:
            InputError: It is of another architecture.
        """
        load_strictly(self.network, target.network.state_dict(), f"target {target.card.name!r}")

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


def _read(card: str) -> TargetCard:
    """The card that a text describes."""
    if not card:
        return read_card(BUILTIN_CARD)
    return from_mapping(TargetCard, parse_object(card, "card"), "card")
