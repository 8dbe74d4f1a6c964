"""RIAE and its loss: pixels, and perceptual features of purified and attacked patches mixed (Algorithm 1)."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.checkpoints.init_weights import initialise
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.losses.perceptual import PerceptualLoss, l1
from impure.purifier.losses.rcm import combine
from impure.purifier.riae.model import RIAE
from impure.purifier.training.objectives.objective import Objective
from impure.purifier.training.train_config import TrainConfig


class RIAEObjective(Objective):
    """RIAE and the recipe of a training."""

    loss_names: tuple[str, ...] = ("loss", "pixel", "perceptual")

    def __init__(self, config: TrainConfig, model: RIAE, features: nn.Module | None) -> None:
        """Hold network and loss.

        Args:
            config: The recipe.
            model: What learns.
            features: Feature network of the perceptual loss, in [0,1] space; frozen from here on. None for
                recipes without one.
        """
        self.loss = config.loss
        self.model: RIAE = model
        self.trained = model
        self.multiple = model.config.multiple
        self.perceptual: PerceptualLoss | None = None
        self.frozen: tuple[nn.Module, ...] = ()
        if features is not None:
            self.perceptual = PerceptualLoss(
                features, self.loss.lambdas, per_position=self.loss.per_position, bf16=config.bf16
            )
            self.frozen = (self.perceptual.features,)

    def describe(self) -> Mapping[str, Any]:
        """The object `riae`, from which `RIAE.from_pretrained` builds it."""
        return {"riae": asdict(self.model.config)}

    def losses(self, network: nn.Module, images: TrainingImages, generator: Generator) -> Tensor:
        """Loss, pixel loss and perceptual loss (3,) (Eq. 15); see `Objective.losses`."""
        output = self.rebuilt(network, images.adversarial, generator)
        return self.distances(output, images, generator)

    def rebuilt(self, network: nn.Module, images: Tensor, generator: Generator) -> Tensor:
        """The reconstruction of images (B, 3, h, w) in normalised space, float32, with training's draws."""
        randomness = self.model.draw_training(images, generator, steps_per_subset=self.loss.as_released)
        output: Tensor = network(images, randomness)
        return output.float()

    def distances(self, output: Tensor, images: TrainingImages, generator: Generator) -> Tensor:
        """Loss, pixel loss and perceptual loss (3,) of a reconstruction (B, 3, h, w)."""
        loss, model = self.loss, self.model
        adversarial, clean, clean_row = images[:3]
        pixel = l1(output, model.normalise(clean)[clean_row], loss.per_position)
        perceptual = torch.zeros_like(pixel)
        if self.perceptual is not None:
            purified = model.denormalise(output)
            mixed = combine(purified, adversarial, model.config.patch, loss.combination, generator)
            perceptual = self.perceptual(mixed, clean, clean_row)
        return torch.stack([pixel + perceptual, pixel, perceptual])

    def decays(self, name: str, weight: Tensor) -> bool:
        """Matrices and kernels; not norms, biases, tokens and fusion logits.

        The authors' program, and so recipe `release`, decays tokens and fusion logits as well.
        """
        return (self.loss.as_released or name.endswith(".weight")) and weight.dim() > 1

    def defence(self, model: nn.Module) -> Defence:
        """`RIAE.purify`; see `Objective.defence`."""
        if not isinstance(model, RIAE):
            raise TypeError(f"{type(model).__name__} is no RIAE")
        return RIAEDefence(model)

    def begin_with(self, weights: Path) -> Mapping[str, Any]:
        """Weights of ours, of the authors or of an MAE; see `initialise`."""
        return asdict(initialise(self.model, weights))


def check_features(config: TrainConfig, features: nn.Module | None) -> None:
    """Refuse a feature network that is missing, or that the recipe has no use for.

    Raises:
        InputError: It is.
    """
    if bool(config.loss.lambdas) != (features is not None):
        need = f"needs its feature network {config.loss.network!r}" if features is None else "takes none"
        raise InputError(f"recipe {config.recipe!r} {need}")


def new_riae(config: TrainConfig) -> RIAE:
    """The network with the initial weights of the run's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RIAE(config.riae())
        if config.loss.as_released:
            model.decoder_rb1.reset_parameters()  # PyTorch's own start (Kaiming) instead of the identity
        return model
