"""The columns of an adaptive row in files: all that has to be known to read its numbers."""

from collections.abc import Sequence
from typing import Any

from impure.manifests.base.canonical_json import canonical_json
from impure.purifier.evaluation.adaptive.adaptive_config import Cell
from impure.purifier.evaluation.adaptive.adaptive_scores import Accuracy, AdaptiveRow
from impure.purifier.evaluation.adaptive.attack_curves import accuracy_record
from impure.purifier.evaluation.adaptive.cells import SQUARE, Subject, is_attack

NORM = "Linf"
LOSSES = {
    "ce": "cross-entropy",
    "dlr": "difference of logits ratio",
    "margin": "margin of logits",
    "t": "targeted difference of logits ratio",
    **dict.fromkeys(("fgsm", "pgd", "mifgsm", "difgsm", "mdifgsm"), "cross-entropy"),
    **dict.fromkeys(("square", "cw"), "margin of logits"),
    **dict.fromkeys(("deepfool", "fab-t", "ddn", "fmn"), "size of the perturbation"),
    "autoattack": "those of its four attacks",
}
"""By an attack's name, or what stands behind its hyphen."""

STEP_SIZES = {
    "pgd-": "ε/4, falling to 0",
    "apgd-": "2 ε, halved where progress stops",
    "fgsm": "ε",
    "square": "2 ε in squares",
}
"""By the beginning of an attack's name; others have their own (`impure-data attacks`)."""


def record_of(row: AdaptiveRow, subject: Subject, flags: Sequence[str]) -> dict[str, Any]:
    """A row as files hold it; `settings` is JSON, `flags` are joined by `; `."""
    cell = row.cell
    of_controls = {"clean": row.clean, "noise": row.noise}
    return {
        "target": cell.target,
        "defence": cell.defence,
        "settings": canonical_json(dict(subject.settings)),
        "defence_weights": subject.defence_weights,
        "target_weights": subject.target_weights,
        "plan": subject.plan,
        "pixels": cell.pixels,
        "chosen": chosen(subject),
        "knowledge": cell.knowledge,
        "gradient": gradient_mode(cell, subject),
        "attack": cell.attack,
        "loss": loss_of(cell.attack),
        "norm": NORM,
        "eps": cell.eps,
        "steps": cell.steps,
        "step_size": step_size(cell.attack),
        "restarts": cell.restarts,
        "eot": cell.eot,
        "samples": row.samples,
        **accuracy_record(row.accuracy),
        **{f"{name}_{key}": rate for name, of in of_controls.items() for key, rate in _rates(of).items()},
        "converged": row.converged,
        "flags": "; ".join([*flags, *(["not converged"] if row.converged is False else [])]),
        "grad_evals": row.grad_evals,
        "passes": row.passes,
        "flop": row.flop,
        "seconds": row.seconds,
        "seed": cell.seed,
        "batch_size": cell.batch_size,
    }


def _rates(accuracy: Accuracy | None) -> dict[str, float | None]:
    """The three verdicts."""
    return {verdict: getattr(accuracy, verdict, None) for verdict in ("mean", "worst", "vote")}


def chosen(subject: Subject) -> str:
    """How the images were chosen."""
    if subject.images == subject.available:
        return f"all {subject.available} clean images of the split"
    return f"{subject.images} of {subject.available} clean images of the split, evenly from its classes"


def gradient_mode(cell: Cell, subject: Subject) -> str:
    """What the attacker differentiated."""
    if not is_attack(cell) or cell.attack == SQUARE:
        return "none"
    modes = {"blind": "of the target alone", "straight-through": "the identity for the defence"}
    return modes.get(cell.knowledge, f"{subject.gradient} through defence and target")


def loss_of(attack: str) -> str:
    """What an attack maximises; empty for controls and for the least over attacks."""
    return LOSSES.get(attack, LOSSES.get(attack.rpartition("-")[2], ""))


def step_size(attack: str) -> str:
    """The size of an attack's steps, or who says it."""
    return next((size for name, size in STEP_SIZES.items() if attack.startswith(name)), "")
