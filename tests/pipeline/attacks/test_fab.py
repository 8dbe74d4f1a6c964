"""FAB: AutoAttack's iterates, and nearest adversarials that outlast rounding."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torchattacks import FAB

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.criteria import top_other_classes
from impure.pipeline.attacks.engine.threat_model import AttackError, finalize
from impure.pipeline.attacks.methods.fab import FABT

AUTOATTACK = {"steps": 100, "target_classes": 9, "alpha_max": 0.1, "eta": 1.05, "beta": 0.9}


def attack(**changes):
    return FABT(**{**AUTOATTACK, "steps": 20, **changes})


def classes_of(problem, count=9):
    return top_other_classes(problem.model(problem.clean), problem.labels, count).unbind(1)


def moved(problem, images):
    """L∞ distance on pixels in [0, 1]."""
    return (images - problem.clean).abs().flatten(1).amax(1)


def fools(problem, images):
    return problem.criterion.reached(problem.model(images))


# The projection


# Parity with Torchattacks


@pytest.fixture
def _double(monkeypatch):
    """Torchattacks casts images to float32, and creates float32 constants of its own."""
    torch.set_default_dtype(torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    yield
    torch.set_default_dtype(torch.float32)


class Recorder(nn.Module):
    """Keeps the images of every pass."""

    def __init__(self, model):
        super().__init__()
        self.model, self.seen = model, []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.model(images)


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("changes", [{}, {"alpha_max": 0.5, "eta": 1.3, "beta": 0.6}])
def test_every_iterate_equals_torchattacks_class_by_class(changes, convolutional):
    """Both evaluate each linearisation point and each step; Torchattacks at first the clean one twice."""
    problem = replace(convolutional.problem("fab-t"), quantised=False)
    for rank, target_classes in enumerate(classes_of(problem)):
        ours, theirs = Recorder(problem.model), Recorder(problem.model)
        reference = FAB(theirs, eps=1.0, steps=20, multi_targeted=True, n_classes=10, **changes)
        reference.target_class = rank + 2
        nearest = reference.attack_single_run_targeted(problem.clean, problem.labels)
        images = attack(**changes).minimise_distance(problem.with_model(ours), target_classes).images
        assert len(ours.seen) == 2 * 20
        torch.testing.assert_close(torch.stack(ours.seen), torch.stack(theirs.seen[2:]), rtol=0, atol=1e-9)
        assert fools(problem, images).all()
        torch.testing.assert_close(images, nearest, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("_double")
def test_the_whole_attack_equals_torchattacks(convolutional):
    problem = replace(convolutional.problem("fab-t", 255), quantised=False)
    reference = FAB(problem.model, eps=1.0, steps=20, multi_targeted=True, n_classes=10)
    theirs = reference(problem.clean, problem.labels)
    ours = attack().propose(problem).images
    assert fools(problem, ours).all()
    torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=1e-9)


# How near


def closed_form(batch):
    """Return |f| / ‖w‖₁ of the boundary between two classes."""
    weight, bias = batch.model[1].weight, batch.model[1].bias
    logits = (batch.clean.double() / 255).flatten(1) @ weight.T + bias
    return (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).abs().sum()


@pytest.mark.parametrize("size", [1, 3, 8])
def test_optimal_on_linear_targets_before_rounding(size, linear):
    batch = linear(size, 2)
    problem = replace(batch.problem("fab-t", 255), quantised=False)
    images = attack().propose(problem).images
    assert fools(problem, images).all()
    ratio = moved(problem, images) / closed_form(batch)
    assert ratio.min() > 1
    assert ratio.max() < 1.05


@pytest.mark.parametrize("size", [1, 3, 8])
def test_the_least_whole_level_beyond_the_optimum_in_the_stored_bytes(size, linear):
    batch = linear(size, 2)
    problem = batch.problem("fab-t", 255)
    stored = problem.stored(attack().propose(problem).images)
    assert fools(problem, stored).all()
    levels = (moved(problem, stored) * 255).round()
    assert (levels <= (closed_form(batch) * 255 * 1.05).ceil()).all()


@pytest.fixture(scope="module")
def fragile(make_batch):
    """The boundary is a fraction of a level away, so that rounding to the nearest level erases every step."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
        clean = torch.randint(60, 200, (4, 3, 32, 32), dtype=torch.uint8)
    return make_batch(model, clean)


def test_success_survives_rounding_where_the_bare_attack_is_erased(fragile):
    problem = fragile.problem("fab-t", 2)
    bare = attack().propose(replace(problem, quantised=False)).images
    assert fools(problem, bare).all()
    assert not fools(problem, problem.stored(bare)).all()
    stored = problem.stored(attack().propose(problem).images)
    assert fools(problem, stored).all()
    levels = (moved(problem, bare) * 255).ceil()
    torch.testing.assert_close(moved(problem, stored) * 255, levels)


def test_the_stored_attack_keeps_every_success_of_the_bare_one(convolutional):
    """Rounding away stays within every whole budget that held the unrounded image."""
    problem = convolutional.problem("fab-t", 255)
    for target_classes in classes_of(problem, 3):
        bare = attack().minimise_distance(replace(problem, quantised=False), target_classes).images
        kept = attack().minimise_distance(problem, target_classes).images
        assert fools(problem, kept).all()
        assert torch.equal(problem.stored(kept), kept)
        assert (moved(problem, kept) <= (moved(problem, bare) * 255).ceil() / 255 + 1e-12).all()


# Bookkeeping


def test_images_out_of_reach_end_at_their_last_iterate(linear):
    batch = linear(3, 2)
    batch.model[1].bias[batch.labels[0]] += 100
    batch = replace(batch, labels=batch.labels[:1].expand(3).contiguous())
    images = attack().propose(batch.problem("fab-t")).images
    slope = batch.model[1].weight[1 - batch.labels[0]] - batch.model[1].weight[batch.labels[0]]
    corner = (slope > 0).double().view(1, 3, 2, 2).expand(3, -1, -1, -1)
    assert not fools(batch.problem("fab-t"), images).any()
    torch.testing.assert_close(images, corner)


def test_a_run_a_class_on_the_images_that_still_stand(convolutional):
    problem = convolutional.problem("fab-t", 9)
    differentiated, model = [], problem.model

    def counting(images):
        if images.requires_grad:
            differentiated.append(len(images))
        return model(images)

    object.__setattr__(problem, "model", counting)
    proposal = attack(steps=5, target_classes=4).propose(problem)
    assert sum(differentiated) == proposal.grad_evals.sum()
    assert differentiated == sorted(differentiated, reverse=True)
    assert set((proposal.grad_evals % 5).tolist()) == {0}
    assert len(set(proposal.grad_evals.tolist())) > 1
    assert proposal.grad_evals.max() <= 20


def test_takes_what_classes_there_are(linear):
    assert (attack().propose(linear(3).problem("fab-t", 1)).grad_evals <= 4 * 20).all()


@pytest.mark.parametrize("eps_255", [2, 9])
def test_float64_results_ignore_neighbours_and_batch_size(eps_255, convolutional):
    short = attack(steps=10)
    together = short.propose(convolutional.problem("fab-t", eps_255))
    for indices in [(0,), (3,), (4, 1), (2, 0, 3)]:
        part = short.propose(convolutional.select(*indices).problem("fab-t", eps_255))
        assert torch.equal(part.images, together.images[list(indices)])
        assert torch.equal(part.grad_evals, together.grad_evals[list(indices)])


# What must not pass in silence


class Constant(nn.Module):
    """Has a gradient of exactly zero everywhere."""

    def __init__(self, gap):
        super().__init__()
        self.bias = nn.Parameter(-gap * torch.arange(10, dtype=torch.float64))

    def forward(self, images):
        return images.flatten(1).sum(1, keepdim=True) * 0 + self.bias


@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_zero_gradients_give_no_nan(gap, make_batch, convolutional):
    problem = make_batch(Constant(gap), convolutional.clean).problem("fab-t")
    settled = finalize(problem, attack().propose(problem))
    assert torch.equal(settled.pred_float, problem.labels)


class Broken(nn.Module):
    """Answers images that `breaks` picks with NaN logits, or with sound logits whose gradient is NaN."""

    def __init__(self, inner, breaks, gradients_only):
        super().__init__()
        self.inner, self.breaks, self.gradients_only = inner, breaks, gradients_only

    def forward(self, images):
        where = self.breaks(images.detach())[:, None]
        if not self.gradients_only:
            return self.inner(images) + torch.where(where, torch.nan, 0.0)
        # The root's slope is infinite at 0: NaN once it is multiplied by 0.
        return self.inner(images) + (images.flatten(1).sum(1, keepdim=True) * 0 + ~where).sqrt()


def is_dark(images):
    return images.flatten(1).mean(1) < 0.1


@pytest.mark.parametrize("gradients_only", [False, True])
def test_a_target_that_breaks_is_named(gradients_only, convolutional):
    clean = convolutional.clean.clone()
    clean[2] = 7
    labels = convolutional.model(clean.double() / 255).argmax(1)
    model = Broken(convolutional.model, is_dark, gradients_only)
    problem = replace(convolutional, model=model, clean=clean, labels=labels).problem("fab-t")
    with pytest.raises(AttackError, match=r"for image val/image-2\.jpg$"):
        finalize(problem, attack().propose(problem))


@pytest.mark.parametrize("gradients_only", [False, True])
def test_a_target_that_breaks_under_way_breaks_the_proposal(gradients_only, convolutional):
    clean = convolutional.problem("fab-t").clean

    def has_moved(images):
        return (images - clean).abs().flatten(1).amax(1) > 0.001

    model = Broken(convolutional.model, has_moved, gradients_only)
    problem = replace(convolutional, model=model).problem("fab-t")
    images = attack().minimise_distance(problem, classes_of(problem)[0]).images
    assert images.isnan().flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("target_classes", 0),
        ("alpha_max", -0.1),
        ("alpha_max", 1.1),
        ("eta", 0.9),
        ("beta", 1.5),
    ]
    + [(name, math.nan) for name in ("alpha_max", "eta", "beta")],
)
def test_bad_parameters_are_named(name, value):
    with pytest.raises(InputError, match=rf"{name} must be .* got {value}"):
        attack(**{name: value})


def test_needs_two_classes(make_batch, linear):
    batch = make_batch(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), linear(2).clean)
    with pytest.raises(InputError, match="2 classes or more"):
        attack().propose(batch.problem("fab-t"))
