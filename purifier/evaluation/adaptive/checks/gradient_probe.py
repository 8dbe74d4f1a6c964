"""What gradients through a defence are like: how many are zero, and how far draws agree on them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from impure.pipeline.attacks.engine.criteria import Untargeted
from impure.pipeline.attacks.engine.gradients import loss_and_gradient
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.adaptive.attacked_defence import AttackedDefence

DRAWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientProbe:
    """Gradients of the cross-entropy by some images.

    Attributes:
        zeros: Share of values that are zero.
        zero_images: Images whose whole gradient is zero.
        cosine: Mean cosine between the gradients of two draws of one image; 1 for a defence without draws.
    """

    zeros: float
    zero_images: int
    cosine: float


def probe_gradients(
    defence: Defence, classifier: nn.Module, images: Tensor, labels: Tensor, seed: int
) -> GradientProbe:
    """Measure gradients.

    Args:
        defence: In eval mode, on the images' device.
        classifier: The target, likewise.
        images: In [0,1] (B, 3, H, W).
        labels: True classes (B,).
        seed: Of the draws.
    """
    model = AttackedDefence(defence, classifier, "full", seed)
    draws = DRAWS if defence.is_random else 1
    loss = Untargeted(labels).cross_entropy
    gradients = torch.stack([loss_and_gradient(model, images, loss)[2].flatten(1) for _ in range(draws)])
    zero = gradients == 0
    return GradientProbe(
        zeros=float(zero.float().mean()),
        zero_images=int(zero.all(2).all(0).sum()),
        cosine=_cosine(gradients) if draws > 1 else 1.0,
    )


def _cosine(gradients: Tensor) -> float:
    """Mean cosine over pairs of draws and over images, of gradients (draws, B, values)."""
    draws = len(gradients)
    unit = torch.nn.functional.normalize(gradients, dim=2)
    products = torch.einsum("ibv,jbv->bij", unit, unit)
    off_diagonal = products.sum((1, 2)) - products.diagonal(dim1=1, dim2=2).sum(1)
    return float((off_diagonal / (draws * (draws - 1))).mean())
