"""Every registered attack, with parameters that make it quick: the table that the contract tests run over."""

from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_parameters import Value

QUICK: dict[str, dict[str, Value]] = {
    "fgsm": {},
    "cw": {"steps": 12, "search_steps": 2, "lr": 0.1},
    "deepfool": {"steps": 12},
    "pgd": {},
    "mifgsm": {},
    "difgsm": {},
    "mdifgsm": {},
    "apgd-ce": {},
    "apgd-dlr": {},
    "pgd-ce": {"steps": 10},
    "pgd-dlr": {"steps": 10},
    "pgd-margin": {"steps": 10},
    "apgd-margin": {},
    "apgd-t": {"steps": 6, "target_classes": 3},
    "fab-t": {"steps": 6, "target_classes": 3},
    "square": {"queries": 150},
    "autoattack": {"steps": 4, "target_classes": 2, "queries": 60},
    "ddn": {"steps": 20},
    "fmn": {"steps": 20},
}
"""Name → parameters that differ from the preset's."""

GRADIENT_FREE = ("square",)
"""Attacks that ask for logits only."""


def quick(name: str, **others: object) -> AttackConfig:
    """The configuration of an attack with its quick parameters; others are fields of `AttackConfig`."""
    return AttackConfig(name=name, overrides=tuple(QUICK[name].items()), **others)  # type: ignore[arg-type]
