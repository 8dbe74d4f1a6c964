"""Small float64 targets, batches and a way to make problems; shared by the attack tests."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import AttackResult, Problem, make_problem
from impure.pipeline.attacks.run_attack import attack_batch

SEED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A target with images that it classifies correctly."""

    model: nn.Module
    clean: Tensor
    labels: Tensor
    ids: tuple[str, ...]

    def select(self, *indices: int) -> "Batch":
        chosen = list(indices)
        ids = tuple(self.ids[index] for index in chosen)
        return Batch(model=self.model, clean=self.clean[chosen], labels=self.labels[chosen], ids=ids)

    def attack(self, config: AttackConfig) -> AttackResult:
        return attack_batch(config, self.model, self.clean, self.labels, self.ids, SEED)

    def problem(self, name: str, eps_255: int = 16) -> Problem:
        rng = KeyedRng(seed=SEED, attack=name, source_ids=self.ids)
        return make_problem(self.model, self.clean, self.labels, eps_255, rng, torch.float64)

    def stored_predictions(self, attacked: AttackResult) -> Tensor:
        with torch.no_grad():
            predictions: Tensor = self.model(attacked.adversarial.double() / 255).argmax(1)
        return predictions


def frozen(model: nn.Module) -> nn.Module:
    return model.double().eval().requires_grad_(False)


def batch_for(model: nn.Module, clean: Tensor) -> Batch:
    with torch.no_grad():
        labels = model(clean.double() / 255).argmax(1)
    ids = tuple(f"val/image-{index}.jpg" for index in range(len(clean)))
    return Batch(model=model, clean=clean, labels=labels, ids=ids)


@pytest.fixture(scope="session")
def make_batch() -> Callable[[nn.Module, Tensor], Batch]:
    return lambda model, clean: batch_for(frozen(model), clean)


@pytest.fixture(scope="session")
def convolutional() -> Batch:
    """Five 15-pixel images before a smooth network of ten classes that looks at every pixel.

    A pixel without a gradient would take its sign from rounding, and parity would be a matter of luck.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2),
            nn.SiLU(),
            nn.Conv2d(8, 12, 3, stride=2),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(108, 10),
        )
        model[-1].weight.data.mul_(8)
        clean = torch.randint(0, 256, (5, 3, 15, 15), dtype=torch.uint8)
    return batch_for(frozen(model), clean)


@pytest.fixture(scope="session")
def linear() -> Callable[[int], Batch]:
    """Makes batches of grey 2-pixel images before a linear target of few classes.

    So few pixels must move far (tens of 8-bit levels), which makes rounding small beside the perturbation.
    """

    def make(size: int, classes: int = 5, shift: float = 0.0) -> Batch:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = nn.Sequential(nn.Flatten(), nn.Linear(12, classes))
            model[1].weight.data.normal_()
            clean = torch.randint(118, 139, (8, 3, 2, 2), dtype=torch.uint8)
            centre = -(model[1].weight.data @ torch.full((12,), 0.5))
            model[1].bias.data = centre + 1.5 * torch.eye(classes)[0] + shift
        return batch_for(frozen(model), clean[:size])

    return make
