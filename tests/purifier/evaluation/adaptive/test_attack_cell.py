"""Gradients through defence and target, against autograd, and the bytes of a blind attacker."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.criteria import Untargeted
from impure.pipeline.attacks.engine.gradients import loss_and_gradient
from impure.pipeline.attacks.run_attack import attack_batch
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.static.gaussian_noise import GaussianNoise
from impure.purifier.evaluation.adaptive.adaptive_config import Cell, Knowledge
from impure.purifier.evaluation.adaptive.attack_cell import LabelledImages, attack_images, run_batch
from impure.purifier.evaluation.adaptive.attacked_defence import AttackedDefence, draw_seed
from impure.purifier.evaluation.adaptive.checks.self_checks import check_attack
from impure.purifier.riae.model import RIAE
from tests.purifier.evaluation.adaptive.small_evaluation import Curved, Rounded

SEED, EOT = 3, 4
LABELS = torch.tensor([0, 1, 0])
CELL = Cell(
    target="toy", defence="toy", knowledge="full", attack="pgd-ce", eps=16, steps=3, eot=2, restarts=1,
    images=3, samples=4, seed=SEED, batch_size=3, weights="", pixels="",
)  # fmt: skip


def pictures() -> Tensor:
    return torch.randint(
        0, 256, (3, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )


def cell(knowledge: Knowledge = "full", **changes: object) -> Cell:
    return replace(CELL, knowledge=knowledge, **changes)  # type: ignore[arg-type]


@pytest.fixture(params=["noise", "riae"])
def defence(request: pytest.FixtureRequest, riae: Callable[[str], RIAE]) -> Defence:
    return GaussianNoise(eps=8) if request.param == "noise" else RIAEDefence(riae("both")).double()


def test_eot_is_the_mean_of_single_gradients_and_full_is_autograd(defence: Defence) -> None:
    images, classifier = pictures().double() / 255, Curved()
    model = AttackedDefence(defence, classifier, "full", SEED)
    found = loss_and_gradient(model, images, Untargeted(LABELS).cross_entropy, EOT)[2]
    single = []
    for call in range(EOT):
        leaf = images.clone().requires_grad_()
        defence.reseed(draw_seed(SEED, call))
        loss = cross_entropy(classifier(defence(leaf)), LABELS, reduction="sum")
        single.append(torch.autograd.grad(loss, leaf)[0])
    assert (found - torch.stack(single).mean(0)).abs().max() <= 1e-10 * found.abs().max()
    assert not torch.equal(single[0], single[1])
    once = AttackedDefence(defence, classifier, "full", SEED)
    exact = loss_and_gradient(once, images, Untargeted(LABELS).cross_entropy)[2]
    assert (exact - single[0]).abs().max() <= 1e-10 * exact.abs().max()


def test_straight_through_is_the_targets_gradient_at_the_defended_image() -> None:
    images, classifier, defence = pictures().double() / 255, Curved(), Rounded()
    model = AttackedDefence(defence, classifier, "straight-through", SEED)
    found = loss_and_gradient(model, images, Untargeted(LABELS).cross_entropy)[2]
    leaf = defence(images).requires_grad_()
    loss = cross_entropy(classifier(leaf), LABELS, reduction="sum")
    assert torch.equal(found, torch.autograd.grad(loss, leaf)[0])


@pytest.mark.parametrize("attack", ["fgsm", "pgd-ce", "apgd-ce", "square"])
def test_blind_is_the_stored_attack(attack: str) -> None:
    images = LabelledImages(pictures(), LABELS, ["a", "b", "c"])
    blind = cell("blind", attack=attack, eot=1)
    found = attack_images(blind, 0, GaussianNoise(eps=64), Curved(), images)
    length = {"fgsm": (), "square": (("queries", 75),)}.get(attack, (("steps", 3),))
    stored = attack_batch(AttackConfig(name=attack, eps_255=16, overrides=length), Curved(), *images, SEED)
    assert torch.equal(found.images, stored.adversarial)


def test_whoever_knows_the_draws_meets_one_alone_in_attack_and_verdict() -> None:
    images = LabelledImages(pictures(), LABELS, ["a", "b", "c"])
    done = run_batch(cell("draws", eot=1), 0, GaussianNoise(eps=64), Curved(), images)
    assert (done.predictions == done.predictions[0]).all()
    defence = GaussianNoise(eps=64)
    model = AttackedDefence(defence, Curved(), "draws", 5)
    clean = images.clean / 255
    assert torch.equal(model(clean), model(clean))
    assert torch.allclose(model(clean)[1:], model(clean[1:]))  # whatever else is in the batch


def test_passes_and_gradients_are_counted() -> None:
    images = LabelledImages(pictures(), LABELS, ["a", "b", "c"])
    done = run_batch(cell(), 0, GaussianNoise(eps=8), Curved(), images)
    assert done.grad_evals.tolist() == [3] * 3 and done.passes == 3 * 2 + 1
    assert done.predictions.shape == (4, 3) and done.linf_255.max() <= 16


def test_a_planted_example_is_found_where_there_are_gradients(defence: Defence) -> None:
    images = LabelledImages(pictures(), LABELS, ["a", "b", "c"])
    known = check_attack(defence.float(), Curved(), images, 16, SEED)
    assert (known.found, known.images, known.is_plain) == (3, 3, True)
    assert check_attack(Rounded(), Curved(), images, 4, SEED).found < 3
