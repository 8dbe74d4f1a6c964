"""The presets `release` and `cleverhans`: what the paper's authors ran, and CleverHans' defaults."""

import inspect
from dataclasses import replace

import pytest
import torch
from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2
from torch.nn.functional import cross_entropy

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS

EPS, ALPHA = 16 / 255, 4 / 255


def released(name, **overrides):
    return AttackConfig(name=name, preset="release", overrides=tuple(overrides.items())).build()


def signed_steps(problem, start, decay):
    """Ten signed steps from `start` of which the first goes along the gradient of the clean image."""
    images, momentum = start, 0.0
    for step in range(10):
        point = (problem.clean if step == 0 else images).detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(problem.model(point), problem.labels), point)
        momentum = gradient / gradient.abs().mean(dim=(1, 2, 3), keepdim=True) + decay * momentum
        change = (images - problem.clean + ALPHA * momentum.sign()).clamp(-EPS, EPS)
        images = (problem.clean + change).clamp(0, 1)
    return images


@pytest.mark.parametrize(
    ("name", "decay"), [("pgd", 0.0), ("mifgsm", 1.0), ("difgsm", 0.0), ("mdifgsm", 1.0)]
)
def test_released_gradient_attacks_start_at_random_with_the_clean_gradient(name, decay, convolutional):
    problem = convolutional.problem(name)
    noise = problem.rng.uniform("start", problem.clean.shape[1:])
    start = (problem.clean + EPS * (2 * noise - 1)).clamp(0, 1)
    undiversified = {"diversity_prob": 0.0} if name.endswith("difgsm") else {}
    ours = released(name, **undiversified).propose(problem).images
    torch.testing.assert_close(ours, signed_steps(problem, start, decay), rtol=0, atol=1e-12)
    paper = AttackConfig(name=name, overrides=tuple(undiversified.items())).build().propose(problem).images
    assert not torch.equal(ours, paper)


def signed_deepfool(model, clean, label):
    """DeepFool on one image (1, C, H, W), by 4/255 along the sign of each of its steps, within ±16/255."""
    noise, image = torch.zeros_like(clean), clean
    rivals = [int(rival) for rival in model(clean)[0].argsort(descending=True)[:10] if rival != label]
    for _ in range(50):
        image = image.detach().requires_grad_()
        logits = model(image)[0]
        if logits.argmax() != label:
            break
        gaps = [logits[rival] - logits[label] for rival in rivals]
        slopes = [torch.autograd.grad(gap, image, retain_graph=True)[0] for gap in gaps]
        ways = [float(gap.detach().abs() / slope.norm()) for gap, slope in zip(gaps, slopes, strict=True)]
        noise = (noise + 1.02 * ALPHA * slopes[ways.index(min(ways))].sign()).clamp(-EPS, EPS)
        image = (clean + noise).clamp(0, 1)
    return image.detach()


def test_the_released_deepfool_takes_signed_steps_within_the_budget(convolutional):
    problem = replace(convolutional.problem("deepfool"), quantised=False)
    ours = problem.project(released("deepfool").propose(problem).images)
    for index, label in enumerate(problem.labels):
        theirs = signed_deepfool(problem.model, problem.clean[index : index + 1], label)
        torch.testing.assert_close(ours[index : index + 1], theirs, rtol=0, atol=1e-12)
    minimal = AttackConfig(name="deepfool").build().propose(problem).images
    sizes = [(images - problem.clean).flatten(1).norm(dim=1).mean() for images in (ours, minimal)]
    assert sizes[0] > 1.1 * sizes[1]


def test_cleverhans_is_cleverhans_own_carlini_wagner():
    theirs = inspect.signature(carlini_wagner_l2).parameters
    names = {
        "steps": "max_iterations", "search_steps": "binary_search_steps", "lr": "lr", "c0": "initial_const",
        "kappa": "confidence",
    }  # fmt: skip
    expected = {ours: theirs[name].default for ours, name in names.items()}
    assert ATTACKS["cw"].preset("cleverhans") == expected


def test_what_a_preset_does_not_change_is_as_in_the_paper():
    assert ATTACKS["pgd"].preset("cleverhans") == ATTACKS["pgd"].paper
    assert ATTACKS["apgd-ce"].preset("release") == ATTACKS["apgd-ce"].paper
    assert ATTACKS["cw"].preset("release") == ATTACKS["cw"].paper


@pytest.mark.parametrize("name", ["pgd", "mifgsm", "difgsm", "mdifgsm", "deepfool"])
def test_libraries_refuse_what_they_cannot_do(name):
    with pytest.raises(InputError, match=f"torchattacks {name} knows no .* preset release asks for"):
        AttackConfig(name=name, preset="release", implementation="torchattacks")


def test_a_random_start_makes_restarts_worth_while():
    assert AttackConfig(name="mifgsm", preset="release", restarts=2).restarts == 2
    with pytest.raises(InputError, match="mifgsm draws nothing"):
        AttackConfig(name="mifgsm", restarts=2)
