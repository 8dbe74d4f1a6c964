"""C&W, DeepFool, DDN and FMN: as small as the closed form on linear targets, and never erased by rounding."""

from dataclasses import replace

import pytest
import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from torch import nn

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.criteria import Untargeted
from impure.pipeline.attacks.methods import cw
from impure.pipeline.attacks.methods.cw import CW, REACH
from impure.pipeline.attacks.methods.deepfool import DeepFool

THOROUGH = {"steps": 100, "search_steps": 7, "lr": 0.02, "c0": 0.1, "kappa": 0.0}
# All but DeepFool head for the class with the largest logit, which need not be the nearest: they get two.
CLASSES = {"cw": 2, "deepfool": 5, "ddn": 2, "fmn": 2}
CONFIGS = {
    "cw": AttackConfig(name="cw", eps_255=255, overrides=tuple(THOROUGH.items())),
    "deepfool": AttackConfig(name="deepfool", eps_255=255),
    "ddn": AttackConfig(name="ddn", eps_255=255),
    "fmn": AttackConfig(name="fmn", eps_255=255),
}


def closed_form(batch):
    """Return the distance to the nearest class boundary: min_k |f_k − f_y| / ‖w_k − w_y‖."""
    weight, bias = batch.model[1].weight, batch.model[1].bias
    logits = (batch.clean.double() / 255).flatten(1) @ weight.T + bias
    gaps = logits.gather(1, batch.labels[:, None]) - logits
    norms = (weight[None] - weight[batch.labels][:, None]).norm(dim=-1)
    return (gaps / norms).scatter(1, batch.labels[:, None], torch.inf).amin(1)


def moved(problem, images):
    return (images - problem.clean).flatten(1).norm(dim=1)


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("name", CONFIGS)
def test_optimal_on_linear_targets_before_rounding(name, size, linear):
    batch = linear(size, CLASSES[name])
    problem = batch.problem(name, 255)
    images = CONFIGS[name].build().propose(replace(problem, quantised=False)).images
    assert (batch.model(images).argmax(1) != batch.labels).all()
    ratio = moved(problem, images) / closed_form(batch)
    assert ratio.min() > 1
    assert ratio.max() < 1.05


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("name", CONFIGS)
def test_near_optimal_in_the_stored_bytes(name, size, linear):
    """These perturbations are tens of levels a pixel, so that 8 bits cost next to nothing."""
    batch = linear(size, CLASSES[name])
    attacked = batch.attack(CONFIGS[name])
    assert (batch.stored_predictions(attacked) != batch.labels).all()
    distance = moved(batch.problem(name), attacked.adversarial.double() / 255)
    assert (distance / closed_form(batch)).max() < 1.05


@pytest.mark.parametrize("name", CONFIGS)
def test_success_survives_rounding_where_unrounded_search_is_erased(name, make_batch):
    """On many pixels the nearest boundary is a fraction of a level away: rounding undoes the bare optimum."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5))
        clean = torch.randint(60, 200, (4, 3, 32, 32), dtype=torch.uint8)
    batch = make_batch(model, clean)
    problem = batch.problem(name)
    attack = AttackConfig(name=name, overrides=(("kappa", 0.0),) if name == "cw" else ()).build()
    bare = attack.propose(replace(problem, quantised=False)).images
    assert (batch.model(bare).argmax(1) != batch.labels).all()
    assert (batch.model(problem.stored(bare)).argmax(1) == batch.labels).any()
    stored = problem.stored(attack.propose(problem).images)
    assert (batch.model(stored).argmax(1) != batch.labels).all()


def test_cw_first_search_equals_cleverhans_on_one_image(convolutional, monkeypatch):
    """Ours gets its tanh's range, which pure black and white do not move in; its shrinking is undone."""
    arctanh = torch.arctanh
    monkeypatch.setattr(torch, "arctanh", lambda values: arctanh(values / 0.999999))
    monkeypatch.setattr(cw, "REACH", 0.5)
    inside = replace(convolutional, clean=convolutional.clean.clamp(1, 254))
    for index in range(3):
        problem = inside.select(index).problem("cw", 255)
        theirs = carlini_wagner_l2(
            problem.model, problem.clean, 10, y=problem.labels, lr=0.02, initial_const=20.0,
            binary_search_steps=1, max_iterations=60,
        )  # fmt: skip
        attack = CW(steps=60, search_steps=1, lr=0.02, c0=20.0, kappa=0.0)
        ours = attack.propose(replace(problem, quantised=False)).images
        assert moved(problem, theirs) > 0
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)


def test_cw_margin_is_not_masked_by_negative_logits(linear):
    logits = torch.tensor([[-5.0, -7.0, -9.0], [-7.0, -5.0, -9.0]])
    assert Untargeted(torch.tensor([0, 0])).margin(logits).tolist() == [-2.0, 2.0]
    batch = linear(3, shift=-100.0)
    attacked = batch.attack(CONFIGS["cw"])
    assert torch.equal(attacked.adversarial, linear(3).attack(CONFIGS["cw"]).adversarial)


@pytest.mark.parametrize("level", [0, 255])
def test_cw_moves_pure_black_and_white_pixels(level, make_batch):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    batch = make_batch(model, torch.full((2, 3, 8, 8), level, dtype=torch.uint8))
    attacked = batch.attack(AttackConfig(name="cw", eps_255=64, overrides=(("kappa", 0.0), ("lr", 0.05))))
    assert (batch.stored_predictions(attacked) != batch.labels).all()
    assert ((attacked.adversarial != level).flatten(1).double().mean(1) > 0.2).all()


def test_cw_searches_no_further_than_a_quarter_of_a_level_beyond_black_and_white():
    """A wider range makes the perturbations larger (0.55: by 4 % on photographs)."""
    assert torch.tensor([0.5 - REACH, 0.5 + REACH]).mul(255).tolist() == pytest.approx(
        [-0.25, 255.25], abs=1e-4
    )


def test_cw_keeps_the_largest_margin_where_kappa_is_out_of_reach(convolutional):
    problem = convolutional.problem("cw", 2)
    margins, model = [], problem.model

    def recording(images):
        logits = model(images)
        margins.append(problem.criterion.margin(logits.detach()))
        return logits

    object.__setattr__(problem, "model", recording)
    attack = CW(steps=15, search_steps=2, lr=0.01, c0=10.0, kappa=1000.0)
    stored = problem.stored(attack.propose(problem).images)
    largest = torch.stack(margins).amax(0)
    torch.testing.assert_close(problem.criterion.margin(model(stored)), largest)


def test_deepfool_drops_finished_images_from_the_batch(convolutional):
    """Each pass both tells who is fooled and is differentiated, unless somebody was: then comes another."""
    problem = convolutional.problem("deepfool")
    passes, model = [], problem.model

    def counting(images):
        passes.append(len(images))
        return model(images)

    object.__setattr__(problem, "model", counting)
    grad_evals = (
        DeepFool(steps=50, candidates=10, overshoot=0.02, sign_255=0).propose(problem).grad_evals // 9
    )
    assert len(set(grad_evals.tolist())) > 1
    expected = [5]
    for step in range(1, int(grad_evals.max()) + 1):
        before = int((grad_evals >= step).sum())
        after = int((grad_evals > step).sum())
        expected += [before, after] if 0 < after < before else [before]
    assert passes == expected


def test_deepfool_leaves_a_boundary_that_rounding_hides(make_batch):
    """The gap is so small that the first steps change no stored pixel; each then reaches twice as far."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
        clean = torch.randint(60, 200, (1, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(clean / 255)
        model[1].bias[0] += logits[0, 1] - logits[0, 0] + 1e-6
    batch = make_batch(model, clean)
    attacked = batch.attack(AttackConfig(name="deepfool"))
    assert (batch.stored_predictions(attacked) != batch.labels).all()
    assert attacked.grad_evals.item() <= 15


def test_deepfool_takes_what_classes_there_are(linear):
    proposal = CONFIGS["deepfool"].build().propose(linear(3).problem("deepfool", 255))
    assert (proposal.grad_evals % 4 == 0).all()


def test_deepfool_needs_two_classes(make_batch, linear):
    batch = make_batch(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), linear(2).clean)
    with pytest.raises(InputError, match="2 classes or more"):
        batch.attack(AttackConfig(name="deepfool"))


def test_deepfool_ignores_classes_whose_gradient_is_the_same(linear):
    """Two equal rows make a difference of norm zero; it must neither be chosen nor give NaN."""
    batch = linear(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double().requires_grad_(False)
    model.load_state_dict(batch.model.state_dict())
    model[1].weight[1] = model[1].weight[0]
    attacked = replace(batch, model=model).attack(CONFIGS["deepfool"])
    assert (replace(batch, model=model).stored_predictions(attacked) != batch.labels).all()


def test_cw_searches_c_by_tens_and_then_between_failure_and_success(convolutional, monkeypatch):
    tried = []

    def succeeds_from_eight(_, problem, c, best):
        tried.append(c.tolist())
        return c >= 8

    monkeypatch.setattr(CW, "_descend", succeeds_from_eight)
    CW(steps=1, search_steps=5, lr=0.01, c0=0.1, kappa=0.0).propose(convolutional.problem("cw"))
    assert [values[0] for values in tried] == pytest.approx([0.1, 1, 10, 5.5, 7.75])


def test_deepfool_extends_the_sum_of_its_steps_by_the_overshoot(linear):
    problem = replace(linear(3).problem("deepfool", 255), quantised=False)
    plain, extended = (
        DeepFool(steps=1, candidates=5, overshoot=overshoot, sign_255=0).propose(problem).images
        - problem.clean
        for overshoot in (0.0, 0.5)
    )
    torch.testing.assert_close(extended, 1.5 * plain)


def test_deepfool_passes_over_flat_classes_that_tie_with_the_true_one(convolutional, make_batch):
    class Flat(nn.Module):
        def forward(self, images):
            return images.flatten(1).sum(1, keepdim=True) * torch.zeros(4, dtype=images.dtype)

    attacked = make_batch(Flat(), convolutional.clean).attack(AttackConfig(name="deepfool"))
    assert torch.equal(attacked.adversarial, convolutional.clean)
