"""What the threat model enforces on every attack: budget, rounding, no NaN, no neighbours."""

import hashlib
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from impure.pipeline.attacks import run_attack
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import AttackError, Proposal, finalize, make_problem
from impure.pipeline.attacks.run_attack import attack_batch
from tests.pipeline.attacks.contract_table import GRADIENT_FREE, QUICK, quick

REPEATED = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("name", QUICK)
@REPEATED
@given(eps_255=st.integers(1, 255))
def test_stored_bytes_stay_in_the_budget(name, eps_255, convolutional):
    attacked = convolutional.attack(quick(name, eps_255=eps_255))
    distance = (attacked.adversarial.int() - convolutional.clean.int()).abs()
    assert distance.max() <= eps_255
    assert (attacked.adversarial != convolutional.clean).any()


def finalized(values, images, eps_255=16, dtype=torch.float32, model=lambda x: x.flatten(1)):
    """Finalize a proposal given in units of 1/255 on one-pixel-high grey images."""
    size = len(images)
    rng = KeyedRng(seed=0, attack="x", source_ids=tuple(f"image-{index}" for index in range(size)))
    labels = torch.zeros(size, dtype=torch.int64)
    problem = make_problem(model, images, labels, eps_255, rng, dtype)
    proposed = values.to(dtype).view_as(problem.clean) / 255
    return finalize(problem, Proposal(images=proposed, grad_evals=labels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [-1, 1])
def test_rounding_never_truncates(sign, dtype):
    clean = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256)
    exact = (clean.int() + sign * 16).clamp(0, 255)
    rng = KeyedRng(seed=0, attack="x", source_ids=("one",))
    problem = make_problem(lambda x: x.flatten(1), clean, torch.zeros(1, dtype=torch.int64), 16, rng, dtype)
    signed_step = problem.project(problem.clean + sign * problem.eps)
    attacked = finalize(problem, Proposal(images=signed_step, grad_evals=problem.labels))
    assert torch.equal(attacked.adversarial.int(), exact)


@pytest.mark.parametrize(
    ("level", "expected"), [(100.49, 100), (100.51, 101), (90.0, 95), (200.0, 105), (-3, 95)]
)
def test_proposals_are_rounded_to_nearest_and_projected(level, expected):
    clean = torch.full((1, 1, 1, 1), 100, dtype=torch.uint8)
    attacked = finalized(torch.tensor([level]), clean, eps_255=5)
    assert attacked.adversarial.item() == expected
    assert attacked.proposal_linf_255.item() == pytest.approx(abs(level - 100), abs=1e-3)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.integers(0, 255), st.integers(1, 255))
def test_any_proposal_ends_within_the_budget(levels, clean_level, eps_255):
    clean = torch.full((1, 1, 1, len(levels)), clean_level, dtype=torch.uint8)
    stored = finalized(torch.tensor(levels), clean, eps_255).adversarial
    assert (stored.int() - clean.int()).abs().max() <= eps_255


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_broken_proposals_are_refused_by_name(broken):
    clean = torch.full((3, 1, 1, 2), 100, dtype=torch.uint8)
    levels = torch.full((3, 2), 100.0)
    levels[1, 0] = broken
    with pytest.raises(AttackError, match="NaN or infinite pixels for image image-1$"):
        finalized(levels, clean)


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_broken_logits_of_a_sound_proposal_are_refused_by_name(broken):
    clean = torch.full((3, 1, 1, 2), 100, dtype=torch.uint8)
    levels = torch.full((3, 2), 100.0)
    levels[2, 1] = 101
    with pytest.raises(AttackError, match="NaN or infinite logits for image image-2$"):
        finalized(
            levels, clean, model=lambda x: x.flatten(1).where(x.flatten(1) <= 100 / 255, torch.tensor(broken))
        )


def test_the_float_prediction_is_that_of_the_projected_image():
    clean = torch.full((2, 1, 1, 2), 100, dtype=torch.uint8)
    levels = torch.tensor([[100.0, 104.0], [100.0, 120.0]])
    bright = lambda x: torch.stack([torch.full((len(x),), 110 / 255), x.flatten(1)[:, 1]], 1)  # noqa: E731
    assert bright(levels.view(2, 1, 1, 2) / 255).argmax(1).tolist() == [0, 1]
    assert finalized(levels, clean, eps_255=5, model=bright).pred_float.tolist() == [0, 0]


class Broken(nn.Module):
    """Gives dark images NaN logits, or with sound logits whose gradient is NaN."""

    def __init__(self, inner, gradients_only):
        super().__init__()
        self.inner, self.gradients_only = inner, gradients_only

    def forward(self, images):
        dark = (images.detach().flatten(1).mean(1) < 0.1)[:, None]
        if not self.gradients_only:
            return self.inner(images) + torch.where(dark, torch.nan, 0.0)
        infinite_slope = (images.flatten(1).sum(1, keepdim=True) * 0).abs().sqrt()
        return self.inner(images) + infinite_slope * dark


@pytest.mark.parametrize("gradients_only", [False, True])
@pytest.mark.parametrize("name", QUICK)
def test_a_target_that_breaks_is_never_a_silent_clean_copy(name, gradients_only, convolutional):
    if gradients_only and name in GRADIENT_FREE:
        pytest.skip("it asks for no gradient")
    clean = convolutional.clean.clone()
    clean[2] = 7
    model = Broken(convolutional.model, gradients_only)
    labels = convolutional.model(clean.double() / 255).argmax(1)
    batch = replace(convolutional, model=model, clean=clean, labels=labels)
    with pytest.raises(
        AttackError, match=r"the target gives NaN or .* under attack for image .*image-2\.jpg"
    ):
        batch.attack(quick(name))


def test_an_attack_that_breaks_on_a_sound_target_is_to_blame_itself(convolutional, monkeypatch):
    broken = Proposal(
        images=torch.full_like(convolutional.clean, torch.nan, dtype=torch.float64),
        grad_evals=torch.zeros_like(convolutional.labels),
    )
    monkeypatch.setattr(run_attack, "_propose", lambda *_: broken)
    with pytest.raises(AttackError, match="the attack proposed NaN"):
        convolutional.attack(quick("pgd"))


class Constant(nn.Module):
    """Has a gradient of exactly zero everywhere."""

    def __init__(self, classes=10):
        super().__init__()
        self.bias = nn.Parameter(-torch.arange(classes, dtype=torch.float64))

    def forward(self, images):
        return images.flatten(1).sum(1, keepdim=True) * 0 + self.bias


@pytest.mark.parametrize("preset", ["paper", "library"])
@pytest.mark.parametrize("name", QUICK)
def test_zero_gradients_give_no_nan(name, preset, make_batch, convolutional):
    batch = make_batch(Constant(), convolutional.clean)
    assert torch.equal(batch.attack(quick(name, preset=preset)).pred_float, batch.labels)


@pytest.mark.parametrize("name", QUICK)
def test_float64_results_ignore_neighbours_and_batch_size(name, convolutional):
    config = quick(name)
    together = convolutional.attack(config)
    for indices in [(0,), (3,), (4, 1), (2, 0, 3)]:
        part = convolutional.select(*indices).attack(config)
        assert torch.equal(part.adversarial, together.adversarial[list(indices)])
        assert torch.equal(part.grad_evals, together.grad_evals[list(indices)])


def test_restarts_ignore_neighbours_too(convolutional):
    config = AttackConfig(name="apgd-ce", eps_255=5, restarts=3, overrides=(("steps", 3),))
    together = convolutional.attack(config)
    assert len(set(together.grad_evals.tolist())) > 1
    for index in range(len(convolutional.clean)):
        alone = convolutional.select(index).attack(config)
        assert torch.equal(alone.adversarial[0], together.adversarial[index])


@pytest.mark.parametrize("name", ["pgd", "difgsm", "apgd-ce", "apgd-dlr"])
def test_seed_and_source_id_decide_the_draws(name, convolutional):
    one = convolutional.select(0)
    config = AttackConfig(name=name, eps_255=128, overrides=(("steps", 5),))
    again, renamed = one.attack(config), replace(one, ids=("val/other.jpg",)).attack(config)
    reseeded = attack_batch(config, one.model, one.clean, one.labels, one.ids, seed=8)
    assert torch.equal(one.attack(config).adversarial, again.adversarial)
    assert not torch.equal(renamed.adversarial, again.adversarial)
    assert not torch.equal(reseeded.adversarial, again.adversarial)


def test_every_part_of_the_key_gives_other_numbers():
    rng = KeyedRng(seed=7, attack="pgd", source_ids=("a.jpg",))
    others = [
        replace(rng, seed=8), replace(rng, attack="mifgsm"), replace(rng, source_ids=("b.jpg",)),
        rng.with_restart(1), rng.with_part("start"),
    ]  # fmt: skip
    drawn = [stream.uniform("start", (2,)).tolist() for stream in (rng, *others)]
    drawn.append(rng.uniform("diversity", (2,)).tolist())
    assert len({str(numbers) for numbers in drawn}) == len(drawn)
    assert len({stream.batch_seed() for stream in (rng, *others)}) == len(others) + 1


def test_draws_are_pinned():
    """A change here changes the pixels of every collection."""
    numbers = KeyedRng(seed=7, attack="pgd", source_ids=("a.jpg", "b.jpg")).uniform("start", (3, 4, 4))
    assert numbers.dtype == torch.float64
    digest = hashlib.sha256(numbers.numpy().tobytes()).hexdigest()
    assert digest[:16] == "99757cce64450391"


def test_the_global_generator_is_left_alone(convolutional):
    before = torch.get_rng_state()
    convolutional.attack(AttackConfig(name="mdifgsm"))
    convolutional.attack(AttackConfig(name="apgd-ce", implementation="torchattacks"))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", QUICK)
def test_float32_is_the_default_and_no_parameter_is_touched(name, make_batch, convolutional):
    model = nn.Sequential(nn.Flatten(), nn.Linear(675, 4))
    seen = set()
    model.register_forward_pre_hook(lambda _, inputs: seen.add(inputs[0].dtype))
    labels = model(convolutional.clean.float() / 255).argmax(1)
    seen.clear()
    attack_batch(quick(name), model, convolutional.clean, labels, convolutional.ids, 0)
    assert seen == {torch.float32}
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clean": torch.zeros(5, 3, 14, 14)}, "clean must be uint8"),
        ({"clean": torch.zeros(0, 3, 14, 14, dtype=torch.uint8)}, "N ≥ 1"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "labels must be int64"),
        ({"ids": ("a",)}, "as many source ids"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, message, convolutional):
    with pytest.raises(ValueError, match=message):
        replace(convolutional, **change).attack(AttackConfig(name="fgsm"))
