"""FGSM, the fast gradient sign method (Goodfellow 2015)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.attack_spec import AttackSpec
from impure.pipeline.attacks.engine.iterate import iterate
from impure.pipeline.attacks.engine.signed_gradient import SignedGradient
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM:
    """Fast gradient sign method: one step of size ε along the gradient's sign (L∞).

    Paper: "Explaining and Harnessing Adversarial Examples", Goodfellow et al. 2015, arXiv:1412.6572,
    section 4.

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "fgsm", eps=8)
    """

    def propose(self, problem: Problem) -> Proposal:
        """Take the one signed step."""
        state = SignedGradient(problem=problem, images=problem.clean.clone(), alpha=problem.eps)
        return iterate(state, 1, early_stop=False)


FGSM_SPEC = AttackSpec(
    kind=FGSM,
    paper={},
    library={},
    summary="one signed gradient step of size ε",
    source="Goodfellow 2015, arXiv:1412.6572",
)
