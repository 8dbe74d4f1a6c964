"""MI-FGSM, the momentum iterative method (Dong 2018)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.engine.parameter_checks import at_least
from impure.pipeline.attacks.engine.signed_gradient import IteratedSignedGradient
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class MIFGSM(IteratedSignedGradient):
    """Momentum iterative FGSM: signed steps along a momentum of normalised gradients (L∞).

    Paper: "Boosting Adversarial Attacks with Momentum", Dong et al. 2018, arXiv:1710.06081, Algorithm 1.

    Attributes:
        steps: gradient evaluations (preset `paper`: 10).
        alpha_255: step size in units of 1/255 (4).
        decay: the momentum factor μ (1).
        random_start: whether to start at a random point of the budget (False).
        clean_gradient: whether the first gradient is the clean image's all the same (False).
        early_stop: whether images that are fooled as stored leave the batch (False).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "mifgsm", eps=8, decay=0.9)
    """

    decay: float

    def __post_init__(self) -> None:
        super(MIFGSM, self).__post_init__()
        at_least("decay", self.decay, 0)

    def propose(self, problem: Problem) -> Proposal:
        """Maximise the loss with momentum."""
        return self.maximise(problem, self.decay)


FROM_CLEAN: Params = {"random_start": False, "clean_gradient": False, "early_stop": False}

FROM_RANDOM: Params = {"random_start": True, "clean_gradient": True}
"""What the paper's release does: it starts at random, and takes the first gradient at the clean image."""

MIFGSM_SPEC = AttackSpec(
    kind=MIFGSM,
    paper={"steps": 10, "alpha_255": 4.0, "decay": 1.0, **FROM_CLEAN},
    library={"alpha_255": 2.0},
    release=FROM_RANDOM,
    summary="signed steps along a momentum of normalised gradients",
    source="Dong 2018, arXiv:1710.06081",
)
