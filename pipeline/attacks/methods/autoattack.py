"""AutoAttack: four attacks one after another, the standard measure of robustness (Croce & Hein 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from impure.pipeline.attacks.engine.iterate import run_in_sequence
from impure.pipeline.attacks.engine.parameter_checks import at_least
from impure.pipeline.attacks.engine.threat_model import Attack, Problem, Proposal
from impure.pipeline.attacks.methods.apgd import APGDCE, APGDT
from impure.pipeline.attacks.methods.fab import FABT
from impure.pipeline.attacks.methods.square import Square


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoAttack:
    """The standard ensemble (arXiv:2003.01690, section 5): APGD-CE, APGD-T, FAB-T, Square, in this order.

    Each attacks the images on which all before it failed as stored. An image that withstands all four keeps
    APGD-CE's proposal.

    Attributes:
        steps: of APGD and FAB.
        aims: classes that APGD-T and FAB-T head for.
        queries: of Square.
    """

    steps: int
    target_classes: int
    queries: int

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("target_classes", self.target_classes, 1)
        at_least("queries", self.queries, 1)

    def parts(self) -> Mapping[str, Attack]:
        """Return the attacks by name, in order."""
        return {
            "apgd-ce": APGDCE(steps=self.steps, rho=0.75, early_stop=False),
            "apgd-t": APGDT(steps=self.steps, rho=0.75, early_stop=False, target_classes=self.target_classes),
            "fab-t": FABT(
                steps=self.steps, target_classes=self.target_classes, alpha_max=0.1, eta=1.05, beta=0.9
            ),
            "square": Square(queries=self.queries, p_init=0.8),
        }

    def propose(self, problem: Problem) -> Proposal:
        """Run the four."""
        return run_in_sequence(
            problem, [partial(_part, name, attack) for name, attack in self.parts().items()]
        )


def _part(name: str, attack: Attack, problem: Problem, _: Tensor) -> Proposal:
    return attack.propose(problem.with_part(name))
