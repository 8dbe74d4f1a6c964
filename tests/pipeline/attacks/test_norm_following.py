"""DDN and FMN: the iterates of foolbox, and with rounding what 256 levels leave of them."""

import inspect
import math
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.engine.best_iterates import BestIterates
from impure.pipeline.attacks.methods import fmn
from impure.pipeline.attacks.methods.ddn import DDN
from impure.pipeline.attacks.methods.fmn import FMN

foolbox = pytest.importorskip("foolbox")  # importing it warns

FOOLBOX = {
    "ddn": (DDN(steps=25, gamma=0.05, last_gamma=0.05, init_norm=1.0), foolbox.attacks.DDNAttack(steps=25)),
    "fmn": (FMN(steps=25, alpha=1.0, gamma=0.05, linf=True), foolbox.attacks.LInfFMNAttack(steps=25)),
}
"""Not FMN for L2, which foolbox 3.3.4 never projects. Its DDN has factors in float32."""


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def seen_by(model, seen):
    def recording(images):
        seen.append(images.detach().clone())
        return model(images)

    return recording


@pytest.mark.parametrize("name", FOOLBOX)
def test_every_iterate_equals_foolbox(name, convolutional, monkeypatch):
    """Foolbox does not look where the last step went, and reaches for the boundary and no farther."""
    monkeypatch.setattr(BestIterates, "look_at_last", lambda *_: None)
    monkeypatch.setattr(fmn, "BEYOND", 1.0)
    ours, theirs = FOOLBOX[name]
    problem = replace(convolutional.problem(name, 255), quantised=False)
    seen, seen_theirs = [], []
    ours.propose(problem.with_model(seen_by(problem.model, seen)))
    model = foolbox.PyTorchModel(problem.model, bounds=(0, 1), device="cpu")
    model._model = seen_by(problem.model, seen_theirs)
    theirs.run(model, problem.clean, problem.labels)
    torch.testing.assert_close(torch.stack(seen), torch.stack(seen_theirs), rtol=0, atol=1e-6)


def fmn_by_hand(model, clean, label, steps):
    """Algorithm 1 for L2 on one image (C, H, W): the iterates."""
    iterates, delta, radius, nearest = [], torch.zeros_like(clean), math.inf, math.inf
    for step in range(steps):
        image = (clean + delta)[None].requires_grad_()
        logits = model(image)[0]
        iterates.append(image.detach()[0])
        others = torch.cat([logits[:label], logits[label + 1 :]])
        (gradient,) = torch.autograd.grad(others.max() - logits[label], image)
        ways = abs((others.max() - logits[label]).detach()) / gradient.norm()
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        gamma = 0.001 + 0.049 * cosine
        if logits.argmax() != label:
            nearest = min(nearest, delta.norm())
            radius = min(radius * (1 - gamma), nearest)
        else:
            radius = radius * (1 + gamma) if nearest < math.inf else 1.001 * (delta.norm() + ways)
        delta = delta + (0.01 + 0.99 * cosine) * gradient[0] / gradient.norm()
        delta = (clean + delta * min(1, radius / delta.norm())).clamp(0, 1) - clean
    return torch.stack(iterates)


def test_every_iterate_of_fmn_for_l2(convolutional):
    problem, seen = replace(convolutional.problem("fmn", 255), quantised=False), []
    attack = FMN(steps=25, alpha=1.0, gamma=0.05, linf=False)
    images = attack.propose(problem.with_model(seen_by(problem.model, seen))).images
    assert problem.criterion.reached(problem.model(images)).all()
    for index, (clean, label) in enumerate(zip(problem.clean, problem.labels, strict=True)):
        theirs = fmn_by_hand(problem.model, clean, label, 25)
        torch.testing.assert_close(torch.stack(seen)[:-1, index], theirs, rtol=0, atol=1e-9)


def levelled(values):
    return values.clamp(0, 1).mul(255).round().div(255)


def ddn_by_hand(model, clean, label, steps):
    """Algorithm 1 on one image, its steps unrounded, γ annealed from the first failure after a success on.

    Returns the iterates, with 256 levels.
    """
    iterates, delta, norm, found, across = [], torch.zeros_like(clean), 1.0, False, False
    for step in range(steps):
        image = levelled(clean + delta)[None].requires_grad_()
        logits = model(image)
        iterates.append(image.detach()[0])
        (gradient,) = torch.autograd.grad(cross_entropy(logits, label[None]), image)
        cosine = (1 + math.cos(math.pi * step / steps)) / 2
        delta = delta + (0.01 + 0.99 * cosine) * gradient[0] / gradient.norm()
        success = bool(logits.argmax() != label)
        found, across = found or success, across or (found and not success)
        gamma = 0.001 + 0.049 * cosine if across else 0.05
        norm *= 1 - gamma if success else 1 + gamma
        delta = (clean + norm * delta / delta.norm()).clamp(0, 1) - clean
    return torch.stack(iterates)


def test_ddn_looks_at_256_levels(convolutional):
    problem, seen = convolutional.problem("ddn", 255), []
    attack = AttackConfig(name="ddn", overrides=(("steps", 25),)).build()
    attack.propose(problem.with_model(seen_by(problem.model, seen)))
    assert len(seen) == 25 + 1  # and where the last step went
    for index, (clean, label) in enumerate(zip(problem.clean, problem.labels, strict=True)):
        theirs = ddn_by_hand(problem.model, clean, label, 25)
        torch.testing.assert_close(torch.stack(seen)[:-1, index], theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["ddn", "fmn"])
def test_the_nearest_stored_success_is_proposed(name, convolutional):
    problem, seen = convolutional.problem(name, 255), []
    config = AttackConfig(name=name, overrides=(("steps", 25),))
    images = config.build().propose(problem.with_model(seen_by(problem.model, seen))).images
    distances = []
    for stored in seen:
        distance = (stored - problem.clean).flatten(1).norm(dim=1)
        fooled = problem.criterion.reached(problem.model(stored))
        distances.append(distance.where(fooled, torch.inf))
    nearest = torch.stack(distances).amin(0)
    assert nearest.isfinite().all()
    assert torch.equal((problem.stored(images) - problem.clean).flatten(1).norm(dim=1), nearest)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_linf_is_optimal_on_linear_targets(size, linear):
    """The optimum before rounding is |f| / ‖w‖₁; in stored bytes the next whole level, or hardly more."""
    batch = linear(size, 2)
    problem = batch.problem("fmn", 255)
    weight, logits = batch.model[1].weight, batch.model(problem.clean)
    optimum = (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).abs().sum()
    attack = AttackConfig(name="fmn", eps_255=255, overrides=(("linf", True),)).build()
    for quantised in (False, True):
        images = problem.stored(attack.propose(replace(problem, quantised=quantised)).images)
        distance = (images - problem.clean).abs().flatten(1).amax(1)
        assert quantised is False or problem.criterion.reached(batch.model(images)).all()
        assert (distance <= optimum * 1.05 + 1 / 255).all()


def test_presets_are_the_defaults_of_foolbox():
    """The papers use several numbers of steps; Torchattacks has neither attack."""
    theirs = inspect.signature(foolbox.attacks.DDNAttack).parameters
    names = {"steps": "steps", "gamma": "gamma", "init_norm": "init_epsilon"}
    ours = dict(ATTACKS["ddn"].library)
    assert ours.pop("last_gamma") == ours["gamma"]  # it knows one γ
    assert ours == {ours: theirs[name].default for ours, name in names.items()}
    theirs = inspect.signature(foolbox.attacks.L2FMNAttack).parameters
    names = {"steps": "steps", "gamma": "gamma", "alpha": "max_stepsize"}
    library = {name: value for name, value in ATTACKS["fmn"].library.items() if name != "linf"}
    assert library == {ours: theirs[name].default for ours, name in names.items()}
