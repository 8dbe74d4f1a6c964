"""DI²-FGSM and M-DI²-FGSM, steps on randomly resized and padded images (Xie 2019)."""

from dataclasses import dataclass

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.engine.input_diversity import InputDiversity
from impure.pipeline.attacks.engine.parameter_checks import within
from impure.pipeline.attacks.engine.threat_model import Problem, Proposal
from impure.pipeline.attacks.methods.mifgsm import FROM_CLEAN, FROM_RANDOM, MIFGSM


@dataclass(frozen=True, slots=True, kw_only=True)
class DIFGSM(MIFGSM):
    """DI²-FGSM: MI-FGSM on images that are shrunk and padded at random before each gradient (L∞).

    Paper: "Improving Transferability of Adversarial Examples with Input Diversity", Xie et al. 2019,
    arXiv:1803.06978, section 3.3. With `decay` > 0 it is M-DI²-FGSM. Resizing is bilinear, padding black, and
    each image has random numbers of its own.

    Attributes:
        steps: gradient evaluations (preset `paper`: 10).
        alpha_255: step size in units of 1/255 (4).
        decay: the momentum factor μ (`difgsm`: 0, `mdifgsm`: 1).
        resize_rate: the smallest side of a shrunk image over the original side (0.9).
        diversity_prob: the probability that an image is transformed at a step (0.5).
        random_start: whether to start at a random point of the budget (False).
        clean_gradient: whether the first gradient is the clean image's all the same (False).
        early_stop: whether images that are fooled as stored leave the batch (False).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "mdifgsm", eps=8, diversity_prob=0.7)
    """

    resize_rate: float
    diversity_prob: float

    def __post_init__(self) -> None:
        super(DIFGSM, self).__post_init__()
        within("resize_rate", self.resize_rate, 0.1, 0.99)
        within("diversity_prob", self.diversity_prob, 0, 1)

    def propose(self, problem: Problem) -> Proposal:
        """Maximise the loss of randomly shrunk and padded images."""
        diversity = InputDiversity.draw(problem, self.steps, self.resize_rate, self.diversity_prob)
        return self.maximise(problem, self.decay, diversity)


_DIVERSE: Params = {"resize_rate": 0.9, "diversity_prob": 0.5, **FROM_CLEAN}

DIFGSM_SPEC = AttackSpec(
    kind=DIFGSM,
    paper={"steps": 10, "alpha_255": 4.0, "decay": 0.0, **_DIVERSE},
    library={"alpha_255": 2.0},
    release=FROM_RANDOM,
    summary="signed steps on randomly shrunk and padded images",
    source="Xie 2019, arXiv:1803.06978",
    random=True,
)

MDIFGSM_SPEC = AttackSpec(
    kind=DIFGSM,
    paper={"steps": 10, "alpha_255": 4.0, "decay": 1.0, **_DIVERSE},
    library={"alpha_255": 2.0},
    release=FROM_RANDOM,
    summary="input diversity and momentum together",
    source="Xie 2019, arXiv:1803.06978",
    random=True,
)
