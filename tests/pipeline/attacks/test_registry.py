"""The contract of every registered attack, and what the configuration refuses."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_names import (
    IMPLEMENTATIONS,
    PAPER_ATTACKS,
    PRESETS,
    TARGET_CLASS_CHOICES,
)
from impure.pipeline.attacks.attack_parameters import parse_override
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.attacks.engine.target_class import TARGET_CLASSES
from impure.pipeline.attacks.references.reference_libraries import REFERENCES
from tests.pipeline.attacks.contract_table import GRADIENT_FREE, QUICK, quick

EVERY = [(name, preset) for name in QUICK for preset in PRESETS]


def test_every_registered_attack_is_held_to_the_contract_and_the_papers_come_first():
    assert tuple(ATTACKS)[:9] == PAPER_ATTACKS
    missing = ATTACKS.keys() - QUICK.keys()
    assert not missing, f"add to QUICK in tests/pipeline/attacks/contract_table.py: {', '.join(missing)}"


def test_names_of_options_are_those_of_what_they_choose():
    assert tuple(TARGET_CLASSES) == TARGET_CLASS_CHOICES
    assert ("impure", *REFERENCES) == IMPLEMENTATIONS
    assert {name: ATTACKS["pgd"].preset(name) for name in PRESETS}


@pytest.mark.parametrize(("name", "preset"), EVERY)
def test_contract(name, preset, convolutional):
    config = quick(name, preset=preset)
    attacked = convolutional.attack(config)
    size = len(convolutional.clean)
    assert attacked.adversarial.dtype == torch.uint8
    assert attacked.adversarial.shape == convolutional.clean.shape
    assert attacked.proposal_linf_255.shape == (size,)
    assert attacked.pred_float.dtype == attacked.grad_evals.dtype == torch.int64
    assert (attacked.grad_evals >= (name not in GRADIENT_FREE)).all()
    assert (convolutional.stored_predictions(attacked) != convolutional.labels).any()
    assert json.loads(json.dumps(config.params)) == config.params
    assert list(config.params) == sorted(config.params)


@pytest.mark.parametrize("name", ATTACKS)
def test_presets_name_the_same_parameters_and_are_described(name):
    spec = ATTACKS[name]
    for changes in (spec.library, spec.release, spec.cleverhans):
        assert changes.keys() <= spec.paper.keys()
    assert spec.summary
    assert spec.source


@pytest.mark.parametrize(
    ("name", "evaluations"),
    [
        ("fgsm", 1),
        ("pgd", 10),
        ("mifgsm", 10),
        ("difgsm", 10),
        ("apgd-ce", 10),
        ("cw", 250),
        ("ddn", 100),
        ("fmn", 100),
    ],
)
def test_gradient_evaluations_are_those_spent(name, evaluations, convolutional):
    backwards = []
    problem = convolutional.problem(name)

    def counting(images):
        if images.requires_grad:
            images.register_hook(lambda _: backwards.append(1))
        return convolutional.model(images)

    object.__setattr__(problem, "model", counting)
    proposal = AttackConfig(name=name).build().propose(problem)
    assert len(backwards) == evaluations
    assert proposal.grad_evals.tolist() == [evaluations] * len(convolutional.clean)


@pytest.mark.parametrize("eps_255", [0, 300, -1, 16.0, True])
def test_budgets_outside_1_to_255_are_refused_by_name(eps_255):
    with pytest.raises(InputError, match=f"eps_255.*1 to 255.*{eps_255}"):
        AttackConfig(name="pgd", eps_255=eps_255)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "pdg"}, "unknown attack 'pdg'; choose from: fgsm, cw"),
        (
            {"name": "pgd", "preset": "p"},
            "unknown preset 'p'; choose from: paper, library, release, cleverhans",
        ),
        ({"name": "pgd", "implementation": "foolbox"}, "choose from: impure, torchattacks, cleverhans"),
        (
            {"name": "pgd", "overrides": (("step", 3),)},
            "'step'; choose from: alpha_255, clean_gradient, early_stop, random_start, steps",
        ),
        ({"name": "fgsm", "overrides": (("steps", 3),)}, r"'steps'; choose from: \(none\)"),
        ({"name": "pgd", "overrides": (("steps", 3), ("steps", 4))}, "steps of pgd is set twice"),
        ({"name": "pgd", "overrides": (("steps", 0),)}, "steps must be at least 1, got 0"),
        ({"name": "pgd", "overrides": (("steps", 2.5),)}, "steps must be a whole number, got 2.5"),
        ({"name": "pgd", "overrides": (("steps", True),)}, "steps must be a whole number, got True"),
        ({"name": "pgd", "overrides": (("random_start", 1),)}, "random_start must be true or false, got 1"),
        ({"name": "pgd", "overrides": (("alpha_255", -4),)}, "alpha_255 must be greater than 0"),
        ({"name": "difgsm", "overrides": (("resize_rate", 1.0),)}, "resize_rate must be from"),
        ({"name": "apgd-ce", "overrides": (("rho", 2.0),)}, "rho must be from 0 to 1, got 2.0"),
        ({"name": "cw", "overrides": (("kappa", -1.0),)}, "kappa must be at least 0"),
        ({"name": "deepfool", "overrides": (("candidates", 1),)}, "candidates must be at least 2"),
    ],
)
def test_wrong_values_are_named(wrong, message):
    with pytest.raises(InputError, match=message):
        AttackConfig(**wrong)


def test_overrides_are_kept_in_one_form():
    one = AttackConfig(name="pgd", overrides=(("steps", 20), ("alpha_255", 2)))
    other = AttackConfig(name="pgd", overrides=(("alpha_255", 2.0), ("steps", 20)))
    assert one == other
    assert repr(one) == repr(other)
    assert one.params == {
        "alpha_255": 2.0, "clean_gradient": False, "early_stop": False, "random_start": True, "steps": 20,
    }  # fmt: skip


@given(st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)))
def test_overrides_survive_the_command_line(value):
    name, read = parse_override(f"x={str(value).lower() if isinstance(value, bool) else value}")
    assert name == "x"
    assert type(read) is type(value)
    assert read == value


@pytest.mark.parametrize("text", ["steps", "=3", "steps=", "steps=many", "lr=nan", "lr=inf", "a=b=3"])
def test_unreadable_overrides_are_quoted(text):
    with pytest.raises(InputError, match="cannot read"):
        parse_override(text)
