"""No attack waits for its device, but where it is said how often."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn

from impure.pipeline.attacks import run_attack
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.engine import iterate as loop
from impure.pipeline.attacks.engine.batch_rows import may_leave, rows_where
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import make_problem
from tests.pipeline.attacks.contract_table import quick
from tests.pipeline.attacks.sync_watch import Waited, refusing_to_wait

GPU = torch.device("cuda")
EARLY = ("pgd", "mifgsm", "difgsm", "mdifgsm", "apgd-ce", "apgd-dlr")
MOST_WAITS = {"apgd-t": 3, "fab-t": 3, "square": 8, "autoattack": 1 + 2 + 2 + 3 + 4, "deepfool": 6}
"""One for each class to steer to; one in 20 queries; AutoAttack: one after each of its four, and theirs."""


def leaving_as_on_a_gpu(steps_done, device):
    return may_leave(steps_done, GPU)


def problem_on(device, convolutional, name, eps_255=16):
    rng = KeyedRng(seed=7, attack=name, source_ids=convolutional.ids)
    model, clean = deepcopy(convolutional.model).to(device), convolutional.clean.to(device)
    return make_problem(model, clean, convolutional.labels.to(device), eps_255, rng, torch.float64)


def watched(config, problem):
    with refusing_to_wait(problem.clean.device) as watch:
        proposal = run_attack._propose(config, problem)
    return proposal, watch.waits


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_waits_for_the_device(name, convolutional, monkeypatch):
    monkeypatch.setattr(loop, "may_leave", leaving_as_on_a_gpu)
    proposal, waits = watched(quick(name), convolutional.problem(name, 1))
    assert waits <= MOST_WAITS.get(name, 0)
    assert proposal.images.isfinite().all()


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_waits_for_a_gpu(name, convolutional):
    watched(quick(name), problem_on(GPU, convolutional, name, 1))  # libraries initialise themselves
    proposal, waits = watched(quick(name), problem_on(GPU, convolutional, name, 1))
    assert waits <= MOST_WAITS.get(name, 0)
    assert proposal.images.isfinite().all()


@pytest.mark.parametrize("name", EARLY)
def test_attacks_that_stop_early_wait_a_few_times(name, convolutional, monkeypatch):
    monkeypatch.setattr(loop, "may_leave", leaving_as_on_a_gpu)
    config = quick(name, restarts=2 if ATTACKS[name].random else 1)
    config = replace(config, overrides=(("early_stop", True), ("steps", 10)))
    assert 1 <= watched(config, convolutional.problem(name, 1))[1] <= config.restarts * 7


@pytest.mark.parametrize("name", ["deepfool", *EARLY])
def test_images_that_leave_later_are_the_same(name, convolutional, monkeypatch):
    config = quick(name)
    if name in EARLY:
        config = replace(config, overrides=(("early_stop", True), ("steps", 10)))
    at_once = config.build().propose(convolutional.problem(name, 2))
    monkeypatch.setattr(loop, "may_leave", lambda steps_done, device: steps_done % 7 == 0)
    later = config.build().propose(convolutional.problem(name, 2))
    assert torch.equal(later.images, at_once.images)
    assert torch.equal(later.grad_evals, at_once.grad_evals)


def test_images_leave_every_few_steps():
    leaves = [steps for steps in range(1, 51) if may_leave(steps, GPU)]
    assert leaves == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]
    assert all(may_leave(steps, torch.device("cpu")) for steps in range(1, 51))


WAITS = {
    "item": lambda values: values.sum().item(),
    "bool": lambda values: bool(values.any()),
    "tolist": lambda values: values.tolist(),
    "nonzero": lambda values: values.nonzero(),
    "mask": lambda values: values[values > 0],
}


@pytest.mark.parametrize(
    ("name", "wait"), [(name, "item") for name in ATTACKS] + [("pgd", wait) for wait in WAITS]
)
def test_a_wait_in_any_attack_is_found(name, wait, convolutional):
    """Each calls the target or its criterion in its loop, so a wait there is a wait in the loop."""

    class Waits(nn.Module):
        def forward(self, images):
            WAITS[wait](images.detach())
            return convolutional.model(images)

    problem = convolutional.problem(name).with_model(Waits())
    with pytest.raises(Waited):
        watched(quick(name), problem)


def test_rows_where():
    assert rows_where(torch.tensor([True, False, True])) == [0, 2]
    assert rows_where(torch.tensor([False])) == []
