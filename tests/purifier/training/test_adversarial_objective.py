"""RIAE against its own attacker: what the attack may do, whom its gradients reach, and whose turn it is."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.training.objectives.adversarial_objective import AdversarialObjective
from impure.purifier.training.objectives.open_objective import open_objective
from impure.purifier.training.train_config import Adversary, TrainConfig
from tests.purifier.training.test_trainer import small_preset

__all__ = ["small_preset"]  # a fixture


def classifier(seed: int = 0) -> nn.Module:
    """Three classes by a convolution, and a BatchNorm whose statistics must not move."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(8, 3))


def objective(*classifiers: nn.Module, **adversary: Any) -> AdversarialObjective:
    config = TrainConfig.for_preset("tiny", stage="adversarial", adversary=Adversary(**adversary))
    named = {f"target{number}": each for number, each in enumerate(classifiers or (classifier(),))}
    opened = open_objective(config, None, named)
    assert isinstance(opened, AdversarialObjective)
    return opened


def batch(count: int = 8) -> TrainingImages:
    levels = torch.randint(0, 256, (count, 3, 16, 16), generator=Generator().manual_seed(3))
    clean = levels / 255
    return TrainingImages(clean, clean, torch.arange(count), torch.arange(count) % 3)


def cross_entropy(one: AdversarialObjective, images: Tensor, labels: Tensor) -> float:
    """The mean over many draws of RIAE."""
    draws = Generator().manual_seed(9)
    target = one.frozen[0]
    with torch.no_grad():
        purified = [one.model.purify_once(images, one.model.draw_training(images, draws)) for _ in range(20)]
        return float(torch.stack([F.cross_entropy(target(each), labels) for each in purified]).mean())


@pytest.mark.parametrize("eps", [4, 16])
def test_the_attack_stays_in_its_budget_and_raises_the_loss(eps: int) -> None:
    one, images = objective(eps=(eps,), steps=3), batch()
    attacked = one.attack(images.clean, images.labels, Generator().manual_seed(0))
    assert attacked.min() >= 0 and attacked.max() <= 1 and not attacked.requires_grad
    change = (attacked - images.clean) * 255
    assert float(change.abs().max()) == pytest.approx(eps, abs=1e-3)
    assert torch.allclose(change, change.round(), atol=1e-3)  # as it would be stored
    random = (images.clean + eps / 255 * change.sign().roll(1, 0)).clamp(0, 1)
    before, noisy, after = (
        cross_entropy(one, each, images.labels) for each in (images.clean, random, attacked)
    )
    assert after > max(before, noisy)


def test_the_attack_is_pgd_written_out() -> None:
    """With the same draws: a start, then for each step RIAE's choices, as a loop without the engine."""
    one, images = objective(eps=(8,), steps=2), batch(4)
    found = one.attack(images.clean, images.labels, Generator().manual_seed(5))
    draws = Generator().manual_seed(5)
    eps = 8 / 255
    lower, upper = (images.clean - eps).clamp_min(0), (images.clean + eps).clamp_max(1)
    seen = images.clean + eps * (2 * torch.rand(images.clean.shape, generator=draws) - 1)
    seen = seen.clamp(lower, upper)
    for _ in range(2):
        leaf = seen.clone().requires_grad_()
        purified = one.model.purify_once(leaf, one.model.draw_training(leaf, draws))
        F.cross_entropy(one.frozen[0](purified), images.labels, reduction="sum").backward()
        assert leaf.grad is not None
        seen = (seen + 1.25 * eps / 2 * leaf.grad.sign()).clamp(lower, upper)
    assert torch.equal(found, (seen * 255).round() / 255)


@pytest.mark.parametrize(("count", "share", "clean"), [(8, 0.25, 2), (8, 0.5, 4), (6, 0.3, 2), (1, 0.5, 0)])
def test_the_clean_share_is_exact(count: int, share: float, clean: int) -> None:
    images = batch(count)
    attacked = objective(clean_share=share).attacked(images, Generator().manual_seed(0))
    same = [torch.equal(one, other) for one, other in zip(attacked, images.clean, strict=True)]
    assert same == [True] * clean + [False] * (count - clean)


def test_gradients_reach_riae_and_not_the_target() -> None:
    target = classifier()
    one, images = objective(target), batch()
    before = {name: value.clone() for name, value in target.state_dict().items()}
    one.losses(one.trained, images, Generator().manual_seed(0))[-1].backward()
    assert all(weight.grad is not None for weight in one.model.parameters())
    assert all(weight.grad is None and not weight.requires_grad for weight in target.parameters())
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())


def test_the_loss_is_distances_and_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    one, images = objective(weight=0.7), batch()
    monkeypatch.setattr(AdversarialObjective, "attacked", lambda self, images, generator: images.clean)
    found = one.losses(one.trained, images, Generator().manual_seed(2))
    randomness = one.model.draw_training(images.clean, Generator().manual_seed(2))
    output = one.model(images.clean, randomness)
    pixel = (output - one.model.normalise(images.clean)).abs().mean()
    purified = one.model.purify_once(images.clean, randomness)
    error = F.cross_entropy(one.frozen[0](purified), images.labels)
    wanted = torch.stack([pixel + 0.7 * error, pixel, torch.zeros(()), error])
    assert torch.allclose(found, wanted, atol=1e-6)
    assert one.loss_names == ("loss", "pixel", "perceptual", "cross_entropy")


def test_the_same_seed_gives_the_same_bits() -> None:
    one, images = objective(), batch()
    first, again, other = (
        one.losses(one.trained, images, Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_targets_take_turns_and_the_budget_grows() -> None:
    calls: list[int] = []
    targets = [classifier(seed) for seed in range(2)]
    for number, target in enumerate(targets):
        target.register_forward_hook(lambda *_, number=number: calls.append(number))
    one, images = objective(*targets, eps=(2, 6), steps=1), batch()
    changes = []
    for update in range(4):
        one.begin_update(update, update / 4)
        attacked = one.attack(images.clean, images.labels, Generator().manual_seed(0))
        changes.append(round(float((attacked - images.clean).abs().max() * 255)))
    assert calls == [0, 1, 0, 1] and changes == [2, 2, 6, 6]
    described = one.describe()["targets"]
    assert list(described) == ["target0", "target1"] and len(set(described.values())) == 2


def test_what_cannot_be() -> None:
    config = TrainConfig.for_preset("tiny", stage="adversarial")
    with pytest.raises(InputError, match="needs a classifier to attack through"):
        open_objective(config, None)
    for values, message in (
        ({"eps": ()}, "give budgets from 1 to 255"),
        ({"eps": (4, 0)}, r"eps is \(4, 0\)"),
        ({"steps": 0}, "steps is 0"),
        ({"clean_share": 0.6}, "clean_share is 0.6; it must be from 0 to 0.5"),
        ({"weight": float("nan")}, "weight is nan"),
    ):
        with pytest.raises(InputError, match=message):
            Adversary(**values)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="they go together"):
        replace(config, stage="pairs")
    with pytest.raises(InputError, match="is for RIAE, not for model comdefend"):
        TrainConfig.for_preset("comdefend", stage="adversarial")
