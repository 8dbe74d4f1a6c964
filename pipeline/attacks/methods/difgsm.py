"""DI²-FGSM and M-DI²-FGSM, steps on randomly resized and padded images (Xie 2019)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.input_diversity import InputDiversity
from impure.pipeline.attacks.engine.parameter_checks import within
from impure.pipeline.attacks.engine.signed_gradient import starting_point
from impure.pipeline.attacks.engine.threat_model import (
    Problem,
    Proposal,
)
from impure.pipeline.attacks.methods.mifgsm import MIFGSM


@dataclass(frozen=True, slots=True, kw_only=True)
class DIFGSM(MIFGSM):
    """DI²-FGSM, and with decay > 0 M-DI²-FGSM (Xie 2019, section 3.3)."""

    resize_rate: float
    diversity_prob: float
    random_start: bool

    def __post_init__(self) -> None:
        super(DIFGSM, self).__post_init__()
        within("resize_rate", self.resize_rate, 0.1, 0.99)
        within("diversity_prob", self.diversity_prob, 0, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Climb the loss of randomly shrunk and padded images."""
        start = starting_point(problem, random=self.random_start)
        diversity = InputDiversity.draw(problem, self.steps, self.resize_rate, self.diversity_prob)
        return self.maximise(problem, start, self.decay, diversity)
