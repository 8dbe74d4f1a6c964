"""The reference libraries behind our interface."""

import sys

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.references.reference_libraries import REFERENCES

RUNS = [(library, name) for library, attacks in REFERENCES.items() for name in attacks]
FEWER = {"cw": (("steps", 8),), "deepfool": (("steps", 3),), "square": (("queries", 100),)}


def library_config(library, name, **changes):
    return AttackConfig(
        name=name, implementation=library, preset="library", overrides=FEWER.get(name, ()), **changes
    )


@pytest.mark.parametrize(("library", "name"), RUNS)
def test_runs_repeats_and_stays_in_the_budget(library, name, convolutional):
    config = library_config(library, name)
    one, two = convolutional.attack(config), convolutional.attack(config)
    assert torch.equal(one.adversarial, two.adversarial)
    assert (one.adversarial.int() - convolutional.clean.int()).abs().max() <= 16
    assert (one.grad_evals >= (name != "square")).all()
    assert not convolutional.model.training


def test_params_in_force_are_those_the_library_has():
    assert library_config("torchattacks", "cw").params == {"c0": 1.0, "kappa": 0.0, "lr": 0.01, "steps": 8}
    assert "candidates" not in library_config("torchattacks", "deepfool").params
    with pytest.raises(InputError, match="'candidates'; choose from: overshoot, steps"):
        AttackConfig(name="deepfool", implementation="torchattacks", overrides=(("candidates", 5),))


def test_torchattacks_cw_refuses_the_search_it_does_not_have():
    with pytest.raises(InputError, match="torchattacks cw knows no search_steps.*search_steps=5"):
        AttackConfig(name="cw", implementation="torchattacks")


def test_cleverhans_lists_what_it_has():
    with pytest.raises(InputError, match="'deepfool'; choose from: fgsm, pgd, cw"):
        AttackConfig(name="deepfool", implementation="cleverhans")


def test_cleverhans_refuses_steps_above_the_budget(convolutional):
    config = AttackConfig(name="pgd", implementation="cleverhans", eps_255=2)
    with pytest.raises(InputError, match="lower alpha_255"):
        convolutional.attack(config)


def test_cleverhans_cw_sees_one_image_at_a_time(convolutional):
    config = library_config("cleverhans", "cw")
    together = convolutional.attack(config)
    for index in range(len(convolutional.clean)):
        alone = convolutional.select(index).attack(config)
        assert torch.equal(alone.adversarial[0], together.adversarial[index])


@pytest.mark.parametrize(
    ("library", "module"),
    [("torchattacks", "torchattacks"), ("cleverhans", "cleverhans.torch.attacks.fast_gradient_method")],
)
def test_a_missing_library_says_how_to_get_it(library, module, convolutional, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"{library} is not installed.*impure\[references\]"):
        convolutional.attack(library_config(library, "fgsm"))
