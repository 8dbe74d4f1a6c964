"""A defence and a classifier as an attacker sees them, with draws that a seed repeats."""

import numpy as np
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.base.straight_through import straight_through
from impure.purifier.evaluation.adaptive.adaptive_config import Knowledge


class AttackedDefence(nn.Module):
    """[0,1] RGB (B, 3, H, W) in, logits (B, classes) out; the draws of a call are those of its number.

    So an attack meets fresh draws at every call, and yet the same ones when it is run again. An attacker who
    knows the draws meets one alone, the same for every image.

    Attributes:
        passes: How many images have gone forward so far.
    """

    def __init__(self, defence: Defence, classifier: nn.Module, knowledge: Knowledge, seed: int) -> None:
        """Begin with the first draw.

        Args:
            defence: What stands before the classifier.
            classifier: The target.
            knowledge: Of the attacker.
            seed: Of the draws.

        Raises:
            InputError: A defence that changes the images' size has no straight-through gradient.
        """
        super().__init__()
        if knowledge == "straight-through" and not defence.keeps_size:
            raise InputError(
                f"{type(defence).__name__} changes the images' size: the identity is no gradient of it"
            )
        self.defence = defence
        self.classifier = classifier
        self.knowledge = knowledge
        self.seed = seed
        self.calls = 0
        self.passes = 0

    def forward(self, images: Tensor) -> Tensor:
        """Logits as the attacker may see and differentiate them."""
        self.passes += len(images)
        if self.knowledge == "blind":
            logits: Tensor = self.classifier(images)
            return logits
        self._begin_draws()
        if self.knowledge == "straight-through":
            with torch.no_grad():
                defended = self.defence(images)
            defended = straight_through(images, defended)
        else:
            defended = self.defence(images)
        return self.defence.classify(defended, self.classifier)

    def _begin_draws(self) -> None:
        """Set the defence to the draws of this call."""
        if self.knowledge == "draws":
            return self.defence.reseed(self.seed, alike=True)
        self.defence.reseed(draw_seed(self.seed, self.calls))
        self.calls += 1


def draw_seed(*words: int) -> int:
    """A seed of one draw, from whole numbers."""
    return int(np.random.SeedSequence(list(words)).generate_state(1, np.uint64)[0] >> np.uint64(1))
