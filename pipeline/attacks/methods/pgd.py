"""PGD, projected gradient descent (Madry 2018)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.attack_spec import AttackSpec
from impure.pipeline.attacks.engine.signed_gradient import IteratedSignedGradient
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class PGD(IteratedSignedGradient):
    """Projected gradient descent on the negative loss: signed steps, clipped to ±ε after each (L∞).

    Paper: "Towards Deep Learning Models Resistant to Adversarial Attacks", Madry et al. 2018,
    arXiv:1706.06083, section 2.1.

    Attributes:
        steps: gradient evaluations (preset `paper`: 10).
        alpha_255: step size in units of 1/255 (4).
        random_start: whether to start at a random point of the budget (True), else at the clean image.
        clean_gradient: whether the first gradient is the clean image's all the same (False).
        early_stop: whether images that are fooled as stored leave the batch (False).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "pgd", eps=8, steps=20)
    """

    def propose(self, problem: Problem) -> Proposal:
        """Maximise the loss from the starting point."""
        return self.maximise(problem)


PGD_SPEC = AttackSpec(
    kind=PGD,
    paper={
        "steps": 10,
        "alpha_255": 4.0,
        "random_start": True,
        "clean_gradient": False,
        "early_stop": False,
    },
    library={"alpha_255": 2.0},
    release={"clean_gradient": True},
    summary="signed gradient steps from a random start",
    source="Madry 2018, arXiv:1706.06083",
    random=True,
)
