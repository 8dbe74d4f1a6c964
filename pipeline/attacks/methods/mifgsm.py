"""MI-FGSM, the momentum iterative method (Dong 2018)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.parameter_checks import at_least
from impure.pipeline.attacks.engine.signed_gradient import IteratedSignedGradient
from impure.pipeline.attacks.engine.threat_model import (
    Problem,
    Proposal,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MIFGSM(IteratedSignedGradient):
    """Momentum iterative FGSM (Dong 2018, Algorithm 1); no random start."""

    decay: float

    def __post_init__(self) -> None:
        super(MIFGSM, self).__post_init__()
        at_least("decay", self.decay, 0)

    def propose(self, problem: Problem) -> Proposal:
        """Climb with momentum from the clean image."""
        return self.maximise(problem, problem.clean.clone(), self.decay)
