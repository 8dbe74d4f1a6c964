"""FGSM, the fast gradient sign method (Goodfellow 2015)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.iterate import iterate
from impure.pipeline.attacks.engine.signed_gradient import SignedGradient
from impure.pipeline.attacks.engine.threat_model import (
    Problem,
    Proposal,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FGSM:
    """Fast gradient sign method: one step of size ε (Goodfellow 2015, section 4)."""

    def propose(self, problem: Problem) -> Proposal:
        """Take the one signed step."""
        start = SignedGradient(problem=problem, images=problem.clean.clone(), alpha=problem.eps)
        return iterate(start, 1, early_stop=False)
