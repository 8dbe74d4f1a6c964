"""Auto-PGD: signed steps with momentum whose size halves when progress stops (Croce & Hein 2020)."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.engine.criteria import (
    Criterion,
    Loss,
    Targeted,
    cross_entropy_loss,
    dlr_loss,
    margin_loss,
    top_other_classes,
)
from impure.pipeline.attacks.engine.iterate import iterate, run_in_sequence
from impure.pipeline.attacks.engine.parameter_checks import at_least, within
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal
from impure.pipeline.attacks.methods.apgd_state import APGDState


@dataclass(frozen=True, slots=True, kw_only=True)
class APGD:
    """Auto-PGD for L∞: signed steps with momentum; its subclasses say which loss.

    Paper: "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    Croce & Hein 2020, arXiv:2003.01690, Algorithm 1.

    Checkpoints and the oscillation count follow the authors' published program, against which results are
    compared: whole numbers of steps, and the first loss is compared with 0 instead of the start's loss. The
    gradient at the last iterate, which nothing uses, is not computed.

    Attributes:
        steps: moves; a gradient each, and a forward pass after the last (preset `paper`: 10).
        rho: ρ, the fraction of steps that must raise the loss, or a checkpoint halves the step size (0.75).
        early_stop: whether images that are fooled as stored leave the batch (False).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "apgd-ce", eps=8, steps=20)
    """

    steps: int
    rho: float
    early_stop: bool

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        within("rho", self.rho, 0, 1)

    def maximise(self, problem: Problem, loss: Loss, loss_criterion: Criterion) -> Proposal:
        """Run Algorithm 1 once from a random start.

        Args:
            problem: images, budget and the criterion that decides which iterate is returned.
            loss: the loss to maximise.
            loss_criterion: whose loss it is; not the problem's own criterion in the ensemble's targeted runs.
        """
        state = APGDState.start(problem, loss, loss_criterion, steps=self.steps, rho=self.rho)
        return iterate(state, self.steps, early_stop=self.early_stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDCE(APGD):
    """Auto-PGD on the cross-entropy."""

    def propose(self, problem: Problem) -> Proposal:
        """Maximise the cross-entropy."""
        return self.maximise(problem, cross_entropy_loss, problem.criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDDLR(APGD):
    """Auto-PGD on the difference of logits ratio, which is scale-free."""

    def propose(self, problem: Problem) -> Proposal:
        """Maximise DLR."""
        return self.maximise(problem, dlr_loss, problem.criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDMargin(APGD):
    """Auto-PGD on the difference of the largest wrong logit and the true class's."""

    def propose(self, problem: Problem) -> Proposal:
        """Maximise the margin."""
        return self.maximise(problem, margin_loss, problem.criterion)


@dataclass(frozen=True, slots=True, kw_only=True)
class APGDT(APGD):
    """Auto-PGD on the targeted DLR, towards one likely class after another (Croce & Hein 2020, section 5).

    Attributes:
        target_classes: how many classes to steer to in turn, those with the largest logits when clean (9).
    """

    target_classes: int

    def __post_init__(self) -> None:
        super(APGDT, self).__post_init__()
        at_least("target_classes", self.target_classes, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Run once for each class, on the images that are not fooled yet."""
        with torch.no_grad():
            classes = top_other_classes(problem.logits(problem.clean), problem.labels, self.target_classes)
        attempts = [
            partial(self._towards, place, target_classes)
            for place, target_classes in enumerate(classes.unbind(1))
        ]
        return run_in_sequence(problem, attempts)

    def _towards(self, place: int, target_classes: Tensor, problem: Problem, indices: Tensor) -> Proposal:
        loss_criterion = Targeted(problem.labels, target_classes[indices])
        return self.maximise(problem.with_part(f"aim-{place}"), dlr_loss, loss_criterion)


_AUTO: Params = {"steps": 10, "rho": 0.75, "early_stop": False}

APGD_CE_SPEC = AttackSpec(
    kind=APGDCE,
    paper=_AUTO,
    library=_AUTO,
    summary="Auto-PGD on the cross-entropy",
    source="Croce & Hein 2020, arXiv:2003.01690",
    random=True,
)

APGD_DLR_SPEC = AttackSpec(
    kind=APGDDLR,
    paper=_AUTO,
    library=_AUTO,
    summary="Auto-PGD on the difference of logits ratio",
    source="Croce & Hein 2020, arXiv:2003.01690",
    random=True,
    min_classes=3,
    min_classes_targeted=4,
)

APGD_MARGIN_SPEC = AttackSpec(
    kind=APGDMargin,
    paper=_AUTO,
    library=_AUTO,
    summary="Auto-PGD on the margin of the logits",
    source="Croce & Hein 2020, arXiv:2003.01690, with the loss of Carlini & Wagner 2017, arXiv:1608.04644",
    random=True,
)

APGD_T_SPEC = AttackSpec(
    kind=APGDT,
    paper={"steps": 100, "rho": 0.75, "early_stop": False, "target_classes": 9},
    library={"steps": 10, "rho": 0.75, "early_stop": False, "target_classes": 9},
    summary="Auto-PGD on the targeted DLR, towards the nine likeliest classes in turn",
    source="Croce & Hein 2020, arXiv:2003.01690",
    random=True,
    targeted=False,
    min_classes=4,
)
