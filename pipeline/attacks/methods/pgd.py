"""PGD, projected gradient descent (Madry 2018)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.signed_gradient import IteratedSignedGradient, starting_point
from impure.pipeline.attacks.engine.threat_model import (
    Problem,
    Proposal,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PGD(IteratedSignedGradient):
    """Projected gradient descent (Madry 2018, section 2.1), with or without a random start."""

    random_start: bool

    def propose(self, problem: Problem) -> Proposal:
        """Climb from a random point of the budget."""
        return self.maximise(problem, starting_point(problem, random=self.random_start))
