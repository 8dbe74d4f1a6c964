"""Checks of the attack on what is known: a planted adversarial example, and no defence at all."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.tensors import to_float
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.adaptive.attack_cell import LabelledImages
from impure.purifier.evaluation.adaptive.attacked_defence import AttackedDefence

STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfChecks:
    """What became of them.

    Attributes:
        images: How many were attacked.
        found: On how many the attack found a planted adversarial example through the defence.
        is_plain: Whether without a defence the attack gives the plain attack's bytes.
    """

    images: int
    found: int
    is_plain: bool


def check_attack(
    defence: Defence, classifier: nn.Module, images: LabelledImages, eps: int, seed: int
) -> SelfChecks:
    """Attack a planted classifier through the defence, and the target through none.

    Args:
        defence: In eval mode, on the images' device.
        classifier: The target, likewise.
        images: A few.
        eps: L∞ budget in units of 1/255.
        seed: Of starts and draws.
    """
    config = AttackConfig(name="pgd-ce", eps_255=eps, overrides=(("steps", STEPS),))
    planted = PlantedClassifier(defence, images.clean, eps, seed)
    right = images._replace(labels=torch.zeros_like(images.labels))
    attacked = attack_batch(config, planted, *right, seed, dtype=torch.float32).adversarial
    with torch.no_grad():
        classes = planted(to_float(attacked)).argmax(1)
    bare = AttackedDefence(NoDefence(), classifier, "full", seed)
    bytes_of = [
        attack_batch(config, model, *images, seed, dtype=torch.float32).adversarial
        for model in (bare, classifier)
    ]
    return SelfChecks(
        images=len(images.clean), found=int(classes.sum()), is_plain=torch.equal(bytes_of[0], bytes_of[1])
    )


class PlantedClassifier(nn.Module):
    """Behind a defence with fixed draws, two classes by brightness on the right against the left.

    Between them lies, for each image, half of what a change of the budget's size along that difference
    achieves behind the defence: so an adversarial example is known to be there (class 1).
    """

    def __init__(self, defence: Defence, clean: Tensor, eps: int, seed: int) -> None:
        """Plant it.

        Args:
            defence: In eval mode, on the images' device.
            clean: uint8 RGB (B, 3, H, W); the classifier is meant for attacks on these, in this order.
            eps: L∞ budget in units of 1/255.
            seed: Of the draws.
        """
        super().__init__()
        self.defence = defence
        self.seed = seed
        step = eps * torch.linspace(-1, 1, clean.shape[3], device=clean.device).sign().short()
        with torch.no_grad():
            self.before = self._score(to_float(clean))
            self.gain = self._score(to_float((clean.short() + step).clamp(0, 255).byte())) - self.before

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, 2)."""
        lead = (self._score(images) - self.before) / self.gain - 0.5
        return torch.stack([-lead, lead], dim=1)

    def _score(self, images: Tensor) -> Tensor:
        """Brightness on the right less that on the left (B,)."""
        self.defence.reseed(self.seed, alike=True)
        defended = self.defence(images)
        ramp = torch.linspace(-1, 1, defended.shape[3], device=images.device)
        score: Tensor = (defended * ramp).mean((1, 2, 3))
        return score
