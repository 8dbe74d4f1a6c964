"""Expectation over transformation: a random target's gradients are means over its draws."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_images import attack
from impure.pipeline.attacks.engine.criteria import Untargeted
from impure.pipeline.attacks.engine.gradients import loss_and_gradient, mean_logits
from impure.pipeline.attacks.methods.annealed_pgd import PGDMargin
from impure.pipeline.attacks.run_attack import attack_batch
from tests.pipeline.attacks.conftest import SEED, Batch
from tests.pipeline.attacks.contract_table import QUICK, quick


class Noisy(nn.Module):
    """Scales its input by a draw of its own on every call."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.generator = Generator().manual_seed(0)
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        noise = torch.rand(images.shape, generator=self.generator, dtype=images.dtype)
        logits: Tensor = self.inner(images * (0.5 + noise))
        return logits


def test_gradients_are_the_mean_over_the_same_draws(convolutional: Batch) -> None:
    images, criterion = convolutional.clean.double() / 255, Untargeted(convolutional.labels)
    together, apart = Noisy(convolutional.model), Noisy(convolutional.model)
    found = loss_and_gradient(together, images, criterion.cross_entropy, 5)
    singles = [loss_and_gradient(apart, images, criterion.cross_entropy) for _ in range(5)]
    for mean, parts in zip(found, zip(*singles, strict=True), strict=True):
        assert torch.allclose(mean, torch.stack(parts).mean(0), rtol=0, atol=1e-10)
    with torch.no_grad():
        mean = mean_logits(Noisy(convolutional.model), images, 5)
    assert torch.allclose(mean, torch.stack([logits for _, logits, _ in singles]).mean(0), atol=1e-10)


@pytest.mark.parametrize("name", QUICK)
def test_every_attack_asks_a_random_target_more_often(name: str, convolutional: Batch) -> None:
    config, calls = quick(name), []
    for eot in (1, 3):
        noisy = Noisy(convolutional.model)
        attack_batch(
            config, noisy, convolutional.clean, convolutional.labels, convolutional.ids, SEED, eot=eot
        )
        calls.append(noisy.calls)
    factor = 1 if config.ends_early or name == "autoattack" else 2
    assert calls[1] > calls[0] and calls[1] >= factor * calls[0]  # images that are fooled leave some attacks


def test_with_one_answer_nothing_changes(convolutional: Batch) -> None:
    for eot in (1, 4):  # this target is not random: the mean of equal answers is each of them
        found = attack_batch(
            quick("apgd-ce"),
            convolutional.model,
            convolutional.clean,
            convolutional.labels,
            convolutional.ids,
            SEED,
            eot=eot,
        )
        assert torch.equal(found.adversarial, convolutional.attack(quick("apgd-ce")).adversarial)


def test_steps_of_annealed_pgd_fall_to_nothing(convolutional: Batch) -> None:
    """Before a target whose gradient never turns the iterates go Σ ε/4·(1 − t/T) in one direction."""
    problem = convolutional.problem("pgd-margin", eps_255=200)

    def one_way(images: Tensor) -> Tensor:
        total = images.sum(dim=(1, 2, 3))
        return torch.stack([-total, total], 1)

    everywhere = problem.with_model(one_way).with_criterion(Untargeted(torch.zeros_like(problem.labels)))
    found = PGDMargin(steps=4, first_step=0.25, early_stop=False).propose(everywhere).images
    noise = problem.rng.uniform("start", problem.clean.shape[1:])
    start = problem.project(problem.clean + (2 * noise - 1) * problem.eps)
    wanted = start
    for step in range(4):
        wanted = problem.project(wanted + problem.eps / 4 * (1 - step / 4))
    assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("name", ["pgd-ce", "pgd-dlr", "pgd-margin", "apgd-margin"])
def test_losses_fool_where_plain_pgd_does(name: str, convolutional: Batch) -> None:
    plain = convolutional.stored_predictions(convolutional.attack(quick("pgd"))) != convolutional.labels
    fooled = convolutional.stored_predictions(convolutional.attack(quick(name))) != convolutional.labels
    assert fooled.sum() >= plain.sum() - 1 > 0


def test_the_public_function_takes_it(convolutional: Batch) -> None:
    run: Callable[..., Tensor] = partial(
        attack, convolutional.model, convolutional.clean, convolutional.labels, "pgd", steps=2
    )
    assert torch.equal(run(eot=2), run())
    with pytest.raises(InputError, match="eot must be at least 1"):
        run(eot=0)
