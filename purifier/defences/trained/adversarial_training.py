"""Adversarial training (Madry et al. 2018, arXiv:1706.06083): no purifier, but the classifier learnt anew."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_names import PAPER_EPS_255
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.targets.trainable_target import TrainableTarget
from impure.pipeline.tensors import to_float, to_uint8
from impure.purifier.defences.base.classify import Classifier
from impure.purifier.defences.base.parameters import Value
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.own_classifier import build_for
from impure.purifier.defences.trained.base.trainable import (
    FeatureDefault,
    Features,
    TrainableNetwork,
    TrainingImages,
)


class RobustClassifier(TrainableNetwork):
    """The target's architecture, trained on PGD images that are made against its present weights."""

    name = "adversarial-training"
    learns_from = "clean"
    features = FeatureDefault()  # the shards' classifier, with which it begins

    def __init__(
        self, *, card: str = "", eps: int = PAPER_EPS_255, steps: int = 7, alpha: float = 4.0
    ) -> None:
        """Build the classifier with random weights.

        Args:
            card: The target's card (see `TargetCard`) as JSON; empty for the built-in one.
            eps: L∞ budget of the training images in units of 1/255.
            steps: Gradient evaluations for each of them (Madry: 7 for CIFAR-10).
            alpha: Size of a step in units of 1/255 (a quarter of the budget, as Madry has it).

        Raises:
            InputError: The card describes no classifier, or a number is out of range.
        """
        super().__init__()
        check_sizes("adversarial-training", steps=(steps, 1000))
        self.classifier = TrainableTarget(card)
        self.card = self.classifier.card
        self.eps = eps
        self.steps = steps
        self.alpha = alpha
        self.attack = AttackConfig(
            name="pgd", eps_255=eps, overrides=(("alpha_255", alpha), ("steps", steps))
        )

    @classmethod
    def begin(cls, sizes: dict[str, Value], classifier: nn.Module | None) -> "RobustClassifier":
        """The target's network with its weights.

        Raises:
            InputError: A size is out of range.
        """
        network, target = build_for(cls, sizes, classifier)
        network.classifier.take(target)
        return network

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of RGB in [0,1] (B, 3, H, W)."""
        logits: Tensor = self.classifier(images)
        return logits

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """The cross-entropy of PGD images of the batch's clean ones (1,) (Eq. 2.1: its inner maximum by PGD).

        Raises:
            InputError: The images have no labels.
        """
        return F.cross_entropy(self(self.attacked(images, generator)), images.labels)[None]

    def attacked(self, images: TrainingImages, generator: Generator) -> Tensor:
        """PGD images (B, 3, H, W), made in eval mode as those of a collection are, on the 8-bit grid.

        Raises:
            InputError: The images have no labels.
        """
        if (images.labels < 0).any():
            raise InputError("adversarial-training needs labels; train on shards, not on photographs")
        clean = to_uint8(images.clean[images.clean_row])
        names = [str(row) for row in range(len(clean))]
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        result = attack_batch(self.attack, self, clean, images.labels, names, seed)
        return to_float(result.adversarial)


class AdversarialTraining(NetworkDefence):
    """Leaves images alone, and classifies with a network trained on PGD images; exact gradient."""

    network_kind = RobustClassifier
    source = "Madry et al. 2018, arXiv:1706.06083"
    threat_model = "white-box"

    def __init__(self, network: RobustClassifier) -> None:
        """Put the network in eval mode."""
        super().__init__()
        self.network = network.eval()

    def defend(self, images: Tensor) -> Tensor:
        """Return the same images."""
        return images

    def classify(self, defended: Tensor, classifier: Classifier) -> Tensor:
        """Logits of the trained network; the classifier itself is not asked."""
        logits: Tensor = self.network(defended)
        return logits
