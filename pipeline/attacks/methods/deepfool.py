"""DeepFool, batched: repeated steps to the nearest linearised class boundary."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params
from impure.pipeline.attacks.engine.batch_rows import on_device
from impure.pipeline.attacks.engine.criteria import top_other_classes
from impure.pipeline.attacks.engine.gradients import per_image, step_scale
from impure.pipeline.attacks.engine.iterate import iterate, not_reached
from impure.pipeline.attacks.engine.parameter_checks import at_least
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem, Proposal

MOST_GRADIENTS = 1024
"""Images times rivals in one batched product on a GPU, which holds that many images' gradients at once."""

EXTRA = 1e-4
"""Added to each step's length as the authors' program does, so that a tie on a boundary does not stall."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepFool:
    """DeepFool (L2): steps to the nearest linearised class boundary until the stored image is misclassified.

    Paper: "DeepFool: a simple and accurate method to fool deep neural networks", Moosavi-Dezfooli et al.
    2016, arXiv:1511.04599, Algorithm 2.

    Attributes:
        steps: the most iterations (preset `paper`: 50).
        candidates: how many classes to consider, the true one included: the largest logits when clean (10).
        overshoot: η, by which the sum of the steps is extended (0.02).
        sign_255: 0, or what the paper's release does instead: each step goes along the sign of DeepFool's, so
            long in units of 1/255 (preset `release`: 4), and the sum is clipped to ±ε. No longer minimal.

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "deepfool", eps=16, steps=100)
    """

    steps: int
    candidates: int
    overshoot: float
    sign_255: float

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 1)
        at_least("candidates", self.candidates, 2)
        at_least("overshoot", self.overshoot, 0)
        at_least("sign_255", self.sign_255, 0)

    def propose(self, problem: Problem) -> Proposal:
        """Step all images at once; those that are misclassified as stored leave the batch."""
        clean_pass = ForwardPass.at(problem, problem.clean)
        rivals = top_other_classes(clean_pass.logits.detach(), problem.labels, self.candidates - 1)
        state = DeepFoolState(
            problem=problem,
            images=problem.clean,
            total=torch.zeros_like(problem.clean),
            extra=torch.full_like(problem.clean[:, 0, 0, 0], EXTRA),
            rivals=rivals,
            overshoot_factor=1 + self.overshoot,
            sign_alpha=self.sign_255 / LEVELS,
            last_pass=clean_pass,
        )
        return iterate(state, self.steps, early_stop=True, cost=rivals.shape[1])


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """Stored images (N, C, H, W) and the target's logits of them, still to be differentiated."""

    images: Tensor
    logits: Tensor

    @classmethod
    def at(cls, problem: Problem, images: Tensor) -> "ForwardPass":
        """Run the target once."""
        with torch.enable_grad():
            stored = problem.stored(images).detach().requires_grad_()
            return cls(stored, problem.logits(stored))


@dataclass(slots=True, kw_only=True)
class DeepFoolState:
    """The state of DeepFool, with a row for each image.

    Steps are summed unrounded and every linearisation is taken at the stored image, so that steps which
    rounding erases add up until they show.

    Attributes:
        problem: target, images and labels.
        images: the current iterates, unrounded.
        total: the sum of the steps.
        extra: what each image's next step is longer than to the boundary, (N,).
        rivals: the other classes considered, int64, (N, R).
        overshoot_factor: 1 + η.
        sign_alpha: the length of signed steps on pixels in [0, 1]; 0 takes DeepFool's own.
        last_pass: the last forward pass, which serves both to tell which images are fooled and to go on; None
            after images left, whose rows in it would be differentiated in vain.
    """

    problem: Problem
    images: Tensor
    total: Tensor
    extra: Tensor
    rivals: Tensor
    overshoot_factor: float
    sign_alpha: float
    last_pass: ForwardPass | None

    def step(self, _: int) -> None:
        """Go to the nearest linearised boundary; where storage shows nothing of it, twice as far beyond."""
        current = self.last_pass or ForwardPass.at(self.problem, self.images)
        together = products_at_once(self.problem)
        step = nearest_boundary(current, self.problem.labels, self.rivals, self.extra, together)
        self.total = self._signed(step) if self.sign_alpha else self.total + step
        self.images = torch.add(self.problem.clean, self.total, alpha=self.overshoot_factor)
        unmoved = (self.problem.stored(self.images) == current.images).flatten(1).all(1)
        self.extra = torch.where(unmoved, 2 * self.extra, self.extra)

    def _signed(self, step: Tensor) -> Tensor:
        """Return the sum of the steps with a signed one; extended by the overshoot it keeps to ±ε."""
        total = torch.addcmul(self.total, step.sign(), step_scale(step, self.sign_alpha))
        reach = self.problem.eps / self.overshoot_factor
        return total.clamp_(-reach, reach)

    def not_fooled(self) -> Tensor:
        """See `IterativeAttack`."""
        self.last_pass = ForwardPass.at(self.problem, self.images)
        return not_reached(self.problem, self.last_pass.logits.detach())

    def select(self, rows: Sequence[int]) -> "DeepFoolState":
        """Return the state of some of the images."""
        indices = on_device(rows, self.images.device)
        values = {name: getattr(self, name)[indices] for name in ("images", "total", "extra", "rivals")}
        return replace(self, problem=self.problem.select(rows), last_pass=None, **values)

    def result(self) -> Tensor:
        """Return the last iterate."""
        return self.images


def products_at_once(problem: Problem) -> int:
    """How many rivals' gradients are taken in one batched product.

    A GPU would be idle between small kernels; on a CPU one after the other is as fast or faster (see
    benchmarks/README.md).
    """
    if problem.clean.device.type == "cpu" or not problem.batched_gradients:
        return 1
    return max(MOST_GRADIENTS // len(problem.clean), 1)


def nearest_boundary(
    forward: ForwardPass, labels: Tensor, rivals: Tensor, extra: Tensor, together: int
) -> Tensor:
    """Return the shortest step to a linearised boundary: |f_k|·w_k / ‖w_k‖² (Algorithm 2).

    f_k = z_k − z_y and w_k is its gradient: one vector-Jacobian product per rival on the graph of one forward
    pass, of which only the nearest is kept.

    Args:
        forward: the forward pass to linearise; its graph is used up.
        labels: true classes, int64, (N,).
        rivals: class indices, int64, (N, R).
        extra: added to the step's length, (N,).
        together: how many products to take at once (see `products_at_once`).
    """
    gaps = forward.logits.gather(1, rivals) - forward.logits.gather(1, labels[:, None])
    nearest = torch.full_like(extra, torch.inf)
    step = torch.zeros_like(forward.images)
    for gap, slope in zip(gaps.unbind(1), _slopes(forward.images, gaps, together), strict=True):
        norm = slope.square().sum(dim=(1, 2, 3)).sqrt()
        length = gap.detach().abs() / norm + extra
        # A flat class (norm 0) is infinitely far; a NaN wins and stays, for the threat model to refuse.
        length = torch.where(norm == 0, torch.inf, length)
        nearer = ~(length >= nearest) & ~nearest.isnan()
        nearest = torch.where(nearer, length, nearest)
        torch.where(per_image(nearer), slope * per_image(length / norm), step, out=step)
    return step


def _slopes(images: Tensor, gaps: Tensor, together: int) -> Iterator[Tensor]:
    """The gradients of each column of gaps (N, R) by the images, (N, C, H, W) each; uses their graph up."""
    totals = gaps.sum(0)
    left = len(totals)
    for chosen in torch.eye(left, dtype=gaps.dtype, device=gaps.device).split(together):
        left -= len(chosen)
        if len(chosen) == 1:
            yield from torch.autograd.grad(totals, images, chosen[0], retain_graph=left > 0)
        else:
            yield from torch.autograd.grad(
                totals, images, chosen, retain_graph=left > 0, is_grads_batched=True
            )[0]


_PARAMS: Params = {"steps": 50, "candidates": 10, "overshoot": 0.02, "sign_255": 0.0}

DEEPFOOL_SPEC = AttackSpec(
    kind=DeepFool,
    paper=_PARAMS,
    library=_PARAMS,
    release={"sign_255": 4.0},
    summary="steps to the nearest linearised class boundary, L2",
    source="Moosavi-Dezfooli 2016, arXiv:1511.04599",
    targeted=False,
    compilable=False,
)
