"""Which class a targeted attack steers each image to; the same for every attack on that image."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.criteria import Criterion, Targeted
from impure.pipeline.attacks.engine.threat_model import Problem


def choose_criterion(targeted: str | None, problem: Problem) -> Criterion:
    """Return the criterion of an attack.

    Args:
        targeted: a key of `TARGET_CLASSES`, or None for an untargeted attack.
        problem: an untargeted problem.

    Raises:
        InputError: the target has one class.
    """
    if targeted is None:
        return problem.criterion
    with torch.no_grad():
        logits = problem.model(problem.clean)
    if logits.shape[1] < 2:
        raise InputError("a targeted attack needs a target of 2 classes or more; this one has 1")
    return Targeted(problem.labels, TARGET_CLASSES[targeted](problem, logits))


def _random(problem: Problem, logits: Tensor) -> Tensor:
    """Draw from the wrong classes, evenly."""
    # The key of the stream, the same for every attack: another one would draw other classes.
    uniform = replace(problem.rng, attack="aim").uniform("class", ())
    other = (uniform * (logits.shape[1] - 1)).long().to(problem.labels.device)
    return other + (other >= problem.labels)


def _least_likely(problem: Problem, logits: Tensor) -> Tensor:
    """Take the class with the smallest logit (Kurakin 2016, section 2.3)."""
    return logits.scatter(1, problem.labels[:, None], torch.inf).argmin(1)


TARGET_CLASSES: dict[str, Callable[[Problem, Tensor], Tensor]] = {
    "random": _random,
    "least-likely": _least_likely,
}
"""Name → a problem and its clean logits (N, classes) to classes, int64, (N,)."""
