"""RIAE trained against an attacker who knows it: PGD through RIAE and one of several frozen targets."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.iterate import iterate
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.signed_gradient import SignedGradient
from impure.pipeline.attacks.engine.threat_model import Problem, make_problem
from impure.pipeline.targets.target import state_sha256
from impure.pipeline.tensors import to_uint8
from impure.purifier.defences.base.classify import classify
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.riae.model import RIAE
from impure.purifier.training.objectives.network_objective import frozen
from impure.purifier.training.objectives.riae_objective import RIAEObjective
from impure.purifier.training.train_config import Adversary, TrainConfig

STEP_BUDGETS = 1.25  # sum of an attack's steps in budgets: they can cross from a random start


class AdversarialObjective(RIAEObjective):
    """The distances of a recipe, and the cross-entropy of a target behind RIAE, on images attacked anew.

    A part of each batch stays clean; the rest is attacked through RIAE as it is and the target whose turn it
    is, with a fresh partition and fresh noise at every step.
    """

    loss_names = (*RIAEObjective.loss_names, "cross_entropy")

    def __init__(
        self,
        config: TrainConfig,
        model: RIAE,
        features: nn.Module | None,
        classifiers: Mapping[str, nn.Module],
    ) -> None:
        """Hold network, loss and targets.

        Args:
            config: The recipe, and the attacker.
            model: What learns.
            features: See `RIAEObjective`.
            classifiers: The targets by name, RGB in [0,1] in, logits out, all with the same classes; frozen
                from here on.

        Raises:
            InputError: There is no target.
        """
        super().__init__(config, model, features)
        if not classifiers:
            raise InputError("stage adversarial needs a classifier to attack through")
        self.adversary = config.adversary or Adversary()
        self._names = tuple(classifiers)
        self._classifiers = tuple(frozen(classifier) for classifier in classifiers.values())
        self.frozen = (*self.frozen, *self._classifiers)
        self.begin_update(0, 0.0)

    def describe(self) -> Mapping[str, Any]:
        """RIAE, and `targets`: the digest of each target's weights by its name."""
        digests = map(state_sha256, self._classifiers)
        return {**super().describe(), "targets": dict(zip(self._names, digests, strict=True))}

    def begin_update(self, update: int, progress: float) -> None:
        """The targets take turns; the budget grows with the run."""
        self._classifier = self._classifiers[update % len(self._classifiers)]
        self._eps = self.adversary.eps_at(progress)

    def losses(self, network: nn.Module, images: TrainingImages, generator: Generator) -> Tensor:
        """Loss, pixel loss, perceptual loss and cross-entropy (4,); see `Objective.losses`."""
        images = images._replace(adversarial=self.attacked(images, generator))
        output = self.rebuilt(network, images.adversarial, generator)
        loss, pixel, perceptual = self.distances(output, images, generator)
        error = F.cross_entropy(self._logits(output), images.labels)
        return torch.stack([loss + self.adversary.weight * error, pixel, perceptual, error])

    def attacked(self, images: TrainingImages, generator: Generator) -> Tensor:
        """The batch's clean images (B, 3, h, w), the first of them as they are, the others attacked."""
        clean = images.clean[images.clean_row]
        untouched = round(self.adversary.clean_share * len(clean))
        attacked = self.attack(clean[untouched:], images.labels[untouched:], generator)
        return torch.cat([clean[:untouched], attacked])

    def attack(self, clean: Tensor, labels: Tensor, generator: Generator) -> Tensor:
        """Attack images (B, 3, h, w) through RIAE and the target, from a random start; on the 8-bit grid.

        The engine's steps and projection without its registry: that draws starts on the CPU, image by image,
        and waits for the device, which an update must not.
        """
        nameless = KeyedRng(seed=0, attack="pgd", source_ids=("",) * len(clean))  # nothing is drawn from it

        def logits(seen: Tensor) -> Tensor:
            return self._logits(self.rebuilt(self.model, seen, generator))

        problem = make_problem(logits, to_uint8(clean), labels, self._eps, nameless, clean.dtype)
        alpha = STEP_BUDGETS * problem.eps / self.adversary.steps
        state = SignedGradient(problem=problem, images=_random_start(problem, generator), alpha=alpha)
        return problem.stored(iterate(state, self.adversary.steps, early_stop=False).images)

    def _logits(self, output: Tensor) -> Tensor:
        """The target's logits (B, classes) for a reconstruction, as users get it: in [0,1]."""
        return classify(self._classifier, self.model.denormalise(output).clamp(0, 1))


def _random_start(problem: Problem, generator: Generator) -> Tensor:
    """Points drawn uniformly from the budget (Madry 2018), by a generator on the images' device."""
    clean = problem.clean
    unit = torch.rand(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    return problem.project(clean + problem.eps * (2 * unit - 1))
