"""Iterate by iterate against Torchattacks and CleverHans, in float64 and with our draws injected."""

import math

import numpy as np
import pytest
import torch
from cleverhans.torch.attacks.fast_gradient_method import fast_gradient_method
from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent
from torch import nn
from torch.nn import functional as F
from torchattacks import APGD, DIFGSM, FGSM, MIFGSM, PGD

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.criteria import Untargeted
from impure.pipeline.attacks.engine.input_diversity import InputDiversity, shrink
from impure.pipeline.attacks.engine.threat_model import finalize
from impure.pipeline.attacks.methods.apgd_state import APGDState

EPS = 16 / 255
ALPHA = 4 / 255
STEPS = (1, 2, 3, 10)
LOSSES = {
    "ce": lambda criterion, logits: criterion.cross_entropy(logits),
    "dlr": lambda criterion, logits: criterion.dlr(logits),
}


@pytest.fixture(autouse=True)
def _double():
    """The libraries create float32 constants of their own otherwise."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def proposed(problem, name, **overrides):
    config = AttackConfig(name=name, overrides=tuple(overrides.items()))
    return config.build().propose(problem)


def agree(problem, ours, theirs, tolerance=1e-12):
    """The iterates agree, and so do the bytes that would be stored."""
    theirs = theirs.detach()
    torch.testing.assert_close(ours.images, theirs, rtol=0, atol=tolerance)
    stored = problem.stored_levels(theirs).to(torch.uint8)
    assert torch.equal(finalize(problem, ours).adversarial, stored)


def inject_start(monkeypatch, problem):
    noise = problem.rng.uniform("start", problem.clean.shape[1:])

    def uniform(self, low, high):
        return self.copy_(low + (high - low) * noise)

    monkeypatch.setattr(torch.Tensor, "uniform_", uniform)


def test_fgsm(convolutional):
    problem = convolutional.problem("fgsm")
    ours = proposed(problem, "fgsm")
    agree(problem, ours, FGSM(problem.model, EPS)(problem.clean, problem.labels))


@pytest.mark.parametrize("steps", STEPS)
def test_pgd(steps, convolutional, monkeypatch):
    problem = convolutional.problem("pgd")
    ours = proposed(problem, "pgd", steps=steps)
    inject_start(monkeypatch, problem)
    agree(problem, ours, PGD(problem.model, EPS, ALPHA, steps)(problem.clean, problem.labels))


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", STEPS)
def test_mifgsm(steps, decay, convolutional):
    problem = convolutional.problem("mifgsm")
    ours = proposed(problem, "mifgsm", steps=steps, decay=decay)
    agree(problem, ours, MIFGSM(problem.model, EPS, ALPHA, steps, decay)(problem.clean, problem.labels))


@pytest.mark.parametrize(("name", "decay"), [("difgsm", 0.0), ("mdifgsm", 1.0)])
@pytest.mark.parametrize("steps", STEPS)
def test_input_diversity(steps, name, decay, convolutional, monkeypatch):
    """Torchattacks draws once a batch, we once an image: so it gets one image at a time."""
    whole = convolutional.problem(name)
    ours = proposed(whole, name, steps=steps, resize_rate=0.7)
    theirs = []
    for index in range(len(whole.clean)):
        problem = whole.select([index])
        diversity = InputDiversity.draw(problem, steps, 0.7, 0.5)
        attack = DIFGSM(problem.model, EPS, ALPHA, steps, decay, resize_rate=0.7)
        with monkeypatch.context() as patch:
            inject_diversity(patch, diversity)
            theirs.append(attack(problem.clean, problem.labels))
    agree(whole, ours, torch.cat(theirs))


def inject_diversity(patch, diversity):
    """Torchattacks draws a size, a row, a column and a coin, in this order, at every step."""
    whole = iter(np.stack([diversity.height, diversity.top, diversity.left], -1).flatten().tolist())
    coins = iter(diversity.applied.flatten().tolist())

    def randint(low, high, size, dtype):
        value = next(whole)
        assert low <= value < high
        return torch.full(size, value, dtype=dtype)

    patch.setattr(torch, "randint", randint)
    patch.setattr(torch, "rand", lambda *_: torch.tensor([0.0 if next(coins) else 1.0]))


def test_shrinking_equals_interpolate_and_pad():
    images = torch.rand(3, 2, 15, 15)
    sizes, tops, lefts = (torch.tensor(values) for values in ([13, 9, 15], [1, 0, 0], [0, 5, 0]))
    ours = shrink(images, sizes, sizes, tops, lefts)
    for image, size, top, left, result in zip(images, sizes, tops, lefts, ours, strict=True):
        small = F.interpolate(image[None], size=(size, size), mode="bilinear", align_corners=False)
        padded = F.pad(small, [left, 15 - size - left, top, 15 - size - top])
        torch.testing.assert_close(result, padded[0])


def test_diversity_is_one_draw_per_image(convolutional):
    diversity = InputDiversity.draw(convolutional.problem("difgsm"), 40, 0.5, 0.5)
    assert all(values.shape == (40, 5) for values in (diversity.applied, diversity.top))
    assert len(np.unique(diversity.height[0])) > 1
    assert diversity.height.min() == 7
    assert diversity.height.max() == 14
    assert (diversity.top + diversity.height < 15).all()
    assert 0.35 < diversity.applied.mean() < 0.65


class Recorder(nn.Module):
    """Keeps the logits of every pass."""

    def __init__(self, model):
        super().__init__()
        self.model, self.logits = model, []

    def forward(self, images):
        logits = self.model(images)
        self.logits.append(logits.detach())
        return logits


def run_apgd(problem, loss, steps):
    start = APGDState.start(problem, LOSSES[loss], problem.criterion, steps=steps, rho=0.75)
    for step in range(steps):
        start.step(step)
    return start


@pytest.mark.parametrize("eps_255", [1, 4, 16])
@pytest.mark.parametrize("steps", [1, 2, 10, 25])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_loss_by_loss(loss, steps, eps_255, convolutional, monkeypatch):
    problem = convolutional.problem(f"apgd-{loss}", eps_255)
    ours, theirs = Recorder(problem.model), Recorder(problem.model)
    object.__setattr__(problem, "model", ours)
    progress = run_apgd(problem, loss, steps)
    start = problem.rng.uniform("start", problem.clean.shape[1:])
    monkeypatch.setattr(torch, "rand", lambda _: start)
    reference = APGD(theirs, eps=eps_255 / 255, steps=steps, loss=loss)
    best, _, best_loss, _ = reference.attack_single_run(problem.clean, problem.labels)
    assert len(ours.logits) == len(theirs.logits) == steps + 1
    torch.testing.assert_close(torch.stack(ours.logits), torch.stack(theirs.logits), rtol=0, atol=1e-9)
    torch.testing.assert_close(progress.best_images, best, rtol=0, atol=1e-9)
    torch.testing.assert_close(progress.best_loss, best_loss, rtol=0, atol=1e-9)


def test_apgd_keeps_a_success_however_large_the_loss_of_a_failure(convolutional):
    problem = convolutional.problem("apgd-ce")
    state = run_apgd(problem, "ce", 1)
    success, failure = torch.full_like(problem.clean, 0.25), torch.full_like(problem.clean, 0.75)
    correct = torch.eye(10, dtype=torch.float64)[problem.labels]
    for images, logits, loss in (
        (failure, correct, 50.0),
        (success, -correct, 10.0),
        (failure, correct, 99.0),
    ):
        state.images, state.loss = images, torch.full_like(state.loss, loss)
        state._record(logits)
        assert torch.equal(state.best_images, failure)
    assert torch.equal(state.result(), success)
    assert state.reached.all()


def test_apgd_returns_the_best_misclassified_iterate(convolutional):
    problem = convolutional.problem("apgd-ce", 2)
    recorder = Recorder(problem.model)
    object.__setattr__(problem, "model", recorder)
    progress = run_apgd(problem, "ce", 10)
    logits = torch.stack(recorder.logits)
    wrong = logits.argmax(-1) != problem.labels
    labels = problem.labels.expand(len(logits), -1)
    losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(wrong)
    considered = losses.masked_fill(wrong.any(0) & ~wrong, -math.inf)
    assert torch.equal(progress.reached, wrong.any(0))
    torch.testing.assert_close(progress.kept_loss, considered.amax(0))


def test_dlr_is_scale_free_and_flat_where_the_true_label_ranks_third():
    logits = torch.tensor([[3.0, 1.0, 0.5, 0.0], [3.0, 2.0, 1.0, 0.0]])
    criterion = Untargeted(torch.tensor([0, 2]))
    losses = criterion.dlr(logits)
    torch.testing.assert_close(losses, torch.tensor([-2 / 2.5, 1.0]))
    torch.testing.assert_close(criterion.dlr(logits * 50), losses)


def test_cleverhans_fgsm_in_its_float32(convolutional):
    """Its FGM forces float32 images, so single pixels with tiny gradients may differ."""
    problem = convolutional.problem("fgsm")
    theirs = fast_gradient_method(
        lambda images: problem.model(images.double()), problem.clean, EPS, math.inf, 0, 1, y=problem.labels
    )
    agree(problem, proposed(problem, "fgsm"), theirs.double(), tolerance=1e-6)


@pytest.mark.parametrize("steps", STEPS)
def test_cleverhans_pgd(steps, convolutional, monkeypatch):
    problem = convolutional.problem("pgd")
    ours = proposed(problem, "pgd", steps=steps)
    inject_start(monkeypatch, problem)
    theirs = projected_gradient_descent(
        lambda images: problem.model(images.double()),
        problem.clean,
        EPS,
        ALPHA,
        steps,
        math.inf,
        clip_min=0,
        clip_max=1,
        y=problem.labels,
        sanity_checks=False,
    )
    agree(problem, ours, theirs, tolerance=1e-6)
