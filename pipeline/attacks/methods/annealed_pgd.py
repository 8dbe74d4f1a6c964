"""PGD whose steps shrink, on three losses: what adaptive evaluations run through a defence."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.engine.criteria import Loss, cross_entropy_loss, dlr_loss, margin_loss
from impure.pipeline.attacks.engine.iterate import iterate
from impure.pipeline.attacks.engine.parameter_checks import at_least, positive
from impure.pipeline.attacks.engine.signed_gradient import SignedGradient, starting_point
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnealedPGD:
    """PGD from a random start with steps that fall linearly from a share of the budget to zero (L∞).

    Paper: "Towards Deep Learning Models Resistant to Adversarial Attacks", Madry et al. 2018,
    arXiv:1706.06083, section 2.1; the size of the steps is that of Lee & Kim 2023, arXiv:2303.09051, but for
    their fall. Subclasses say which loss.

    Attributes:
        steps: gradient evaluations (preset `paper`: 100).
        first_step: the first step's size in budgets (0.25).
        early_stop: whether images that are fooled as stored leave the batch (False).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "pgd-margin", eps=4, steps=20)
    """

    steps: int
    first_step: float
    early_stop: bool

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        positive("first_step", self.first_step)

    def maximise(self, problem: Problem, loss: Loss) -> Proposal:
        """Maximise a loss from a random point of the budget."""
        state = SignedGradient(
            problem=problem,
            images=starting_point(problem, random=True),
            alpha=self.first_step * problem.eps,
            annealed_over=self.steps,
            loss=loss,
        )
        return iterate(state, self.steps, early_stop=self.early_stop)


@dataclass(frozen=True, slots=True, kw_only=True)
class PGDCE(AnnealedPGD):
    """On the cross-entropy."""

    def propose(self, problem: Problem) -> Proposal:
        """Maximise it."""
        return self.maximise(problem, cross_entropy_loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class PGDDLR(AnnealedPGD):
    """On the difference of logits ratio, which is scale-free."""

    def propose(self, problem: Problem) -> Proposal:
        """Maximise it."""
        return self.maximise(problem, dlr_loss)


@dataclass(frozen=True, slots=True, kw_only=True)
class PGDMargin(AnnealedPGD):
    """On the difference of the largest wrong logit and the true class's."""

    def propose(self, problem: Problem) -> Proposal:
        """Maximise it."""
        return self.maximise(problem, margin_loss)


_PARAMS: Params = {"steps": 100, "first_step": 0.25, "early_stop": False}


_SOURCE = "Madry 2018, arXiv:1706.06083; Lee & Kim 2023, arXiv:2303.09051"

PGD_CE_SPEC = AttackSpec(
    kind=PGDCE,
    paper=_PARAMS,
    library=_PARAMS,
    summary="PGD with shrinking steps on the cross-entropy",
    source=_SOURCE,
    random=True,
)

PGD_DLR_SPEC = AttackSpec(
    kind=PGDDLR,
    paper=_PARAMS,
    library=_PARAMS,
    summary="PGD with shrinking steps on the difference of logits ratio",
    source=_SOURCE,
    random=True,
    min_classes=3,
    min_classes_targeted=4,
)

PGD_MARGIN_SPEC = AttackSpec(
    kind=PGDMargin,
    paper=_PARAMS,
    library=_PARAMS,
    summary="PGD with shrinking steps on the margin of the logits",
    source=_SOURCE,
    random=True,
)
