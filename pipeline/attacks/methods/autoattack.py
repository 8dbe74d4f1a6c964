"""AutoAttack: four attacks one after another, the standard measure of robustness (Croce & Hein 2020)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec
from impure.pipeline.attacks.engine.iterate import run_in_sequence
from impure.pipeline.attacks.engine.parameter_checks import at_least
from impure.pipeline.attacks.engine.threat_model import Attack, Problem, Proposal
from impure.pipeline.attacks.methods.apgd import APGDCE, APGDT
from impure.pipeline.attacks.methods.fab import FABT
from impure.pipeline.attacks.methods.square import Square


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoAttack:
    """The standard ensemble for L∞: APGD-CE, APGD-T, FAB-T, Square, in this order.

    Paper: "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
    Croce & Hein 2020, arXiv:2003.01690, section 5. Each attacks the images on which all before it failed as
    stored. An image that withstands all four keeps APGD-CE's proposal.

    Attributes:
        steps: steps of APGD and FAB (preset `paper`: 100).
        target_classes: how many classes APGD-T and FAB-T steer to in turn (9).
        queries: queries of Square (5000).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "autoattack", eps=8)
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
            problem, [partial(_attempt, name, attack) for name, attack in self.parts().items()]
        )


def _attempt(name: str, attack: Attack, problem: Problem, _: Tensor) -> Proposal:
    return attack.propose(problem.with_part(name))


AUTOATTACK_SPEC = AttackSpec(
    kind=AutoAttack,
    paper={"steps": 100, "target_classes": 9, "queries": 5000},
    library={"steps": 10, "target_classes": 9, "queries": 5000},
    summary="the standard ensemble: apgd-ce, apgd-t, fab-t, square",
    source="Croce & Hein 2020, arXiv:2003.01690",
    random=True,
    targeted=False,
    min_classes=4,
)
