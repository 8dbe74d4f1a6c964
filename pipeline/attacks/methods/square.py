"""Square: a random search over square patches that asks for logits only (Andriushchenko et al. 2020)."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from impure.pipeline.attacks.engine.attack_spec import AttackSpec
from impure.pipeline.attacks.engine.batch_rows import on_device, rows_where
from impure.pipeline.attacks.engine.criteria import Targeted
from impure.pipeline.attacks.engine.gradients import per_image
from impure.pipeline.attacks.engine.parameter_checks import at_least, positive, within
from impure.pipeline.attacks.engine.threat_model import LEVELS, Problem, Proposal, grad_evals_of

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""The queries of 10000 after which p is halved, as in the authors' programs."""

CHECK_EVERY = 20
"""The most queries between two checks of which images are finished; a check waits for the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """Square Attack for L∞: a random search over square patches, without gradients.

    Paper: "Square Attack: a query-efficient black-box adversarial attack via random search", Andriushchenko
    et al. 2020, arXiv:1912.00049, Algorithms 1 and 2, with the details of the authors' SquareAttack in
    AutoAttack: the start is a query on top; a square never touches the last row and column, unless it is as
    high or wide as the image; and a proposal may equal the image that it came from.

    Attributes:
        queries: proposals to try on each image after its start (preset `paper`: 5000).
        p_init: p, the fraction of an image's pixels that the first squares cover (0.8).

    Shapes:
        Images (N, C, H, W) in [0, 1], labels (N,); proposes images (N, C, H, W).

    Example:
        >>> adversarial = attack(model, images, labels, "square", eps=8, queries=1000)
    """

    queries: int
    p_init: float

    def __post_init__(self) -> None:
        at_least("queries", self.queries, 1)
        positive("p_init", self.p_init)
        within("p_init", self.p_init, 0, 1)

    def side(self, query: int, height: int, width: int) -> int:
        """Return the side of a query's squares, √(p·h·w), with HALVINGS rescaled to the number of queries."""
        p = self.p_init / 2 ** bisect_left(HALVINGS, query * 10000 // self.queries)
        return min(max(round(math.sqrt(p * height * width)), 1), height, width)

    @torch.no_grad()
    def propose(self, problem: Problem) -> Proposal:
        """Search on all images at once; an image keeps its pixels once it reaches the criterion."""
        height, width = problem.clean.shape[2:]
        state = SquareState.start(problem, [self.side(query, height, width) for query in range(self.queries)])
        images = state.result()
        remaining = torch.arange(len(images), device=images.device)
        for first in range(0, self.queries, CHECK_EVERY):
            rows = rows_where(~state.finished)
            if len(rows) < len(remaining):
                images[remaining] = state.result()
                state = state.select(rows)
                remaining = remaining[on_device(rows, images.device)]
            if not rows:
                break
            state.run(slice(first, first + CHECK_EVERY))
        images[remaining] = state.result()
        return Proposal(images=images, grad_evals=grad_evals_of(problem, 0))


@dataclass(slots=True, kw_only=True)
class SquareState:
    """The state of Algorithm 1, with a row for each image.

    Attributes:
        problem: target, budget and criterion.
        levels: the best images in units of 1/255: whole numbers within the budget, as they would be stored.
        loss: theirs, (N,); the margin, or minus the cross-entropy of the target class.
        finished: whether they reach the criterion or break the target (then the loss is not finite), (N,).
        moves: top, left, bottom and right of each query's square, then its step in every channel in units of
            1/255; (N, queries, 4 + C).
    """

    problem: Problem
    levels: Tensor
    loss: Tensor
    finished: Tensor
    moves: Tensor

    @classmethod
    def start(cls, problem: Problem, sides: list[int]) -> "SquareState":
        """Draw all squares, and evaluate vertical stripes of ±ε (section 3, initialization)."""
        channels, height, width = problem.clean.shape[1:]
        uniform = problem.rng.uniform("squares", (len(sides), 2 + channels))
        side = torch.tensor(sides)[:, None]
        corner = (uniform[..., :2] * (torch.tensor([height, width]) - side)).floor_()
        steps = signs(uniform[..., 2:]) * round(2 * problem.eps * LEVELS)
        stripes = signs(problem.rng.uniform("stripes", (channels, 1, width)))
        stripes = stripes.to(problem.clean, non_blocking=True)
        levels = problem.stored_levels(problem.clean + stripes * problem.eps)
        loss, finished = evaluate_levels(problem, levels)
        moves = torch.cat([corner, corner + side, steps], dim=2).to(levels, non_blocking=True)
        return cls(problem=problem, levels=levels, loss=loss, finished=finished, moves=moves)

    def select(self, rows: Sequence[int]) -> "SquareState":
        """Return the state of some of the images."""
        indices = on_device(rows, self.levels.device)
        values = {name: getattr(self, name)[indices] for name in ("levels", "loss", "finished", "moves")}
        return replace(self, problem=self.problem.select(rows), **values)

    def result(self) -> Tensor:
        """Return the best images in [0, 1]; NaN where the target broke, for the threat model to refuse."""
        return (self.levels / LEVELS).masked_fill_(per_image(~self.loss.isfinite()), torch.nan)

    def run(self, queries: slice) -> None:
        """Try some of the moves (Algorithm 2), each the outer product of its steps, rows and columns."""
        moves, (height, width) = self.moves[:, queries].transpose(0, 1)[..., None], self.levels.shape[2:]
        rows = between(moves[:, :, 0:1], moves[:, :, 2:3], height)
        columns = between(moves[:, :, 1:2], moves[:, :, 3:4], width).to(moves)
        for step, column in zip((moves[:, :, 4:] * rows)[..., None], columns[..., None, :], strict=True):
            levels = torch.addcmul(self.levels, step, column)
            torch.clamp(levels, self.problem.lowest, self.problem.highest, out=levels)
            loss, finishes = evaluate_levels(self.problem, levels)
            keep = ((loss > self.loss) | finishes) & ~self.finished
            # Weights 0 and 1 are exact here, and a quarter of the cost of `torch.where` on a CPU.
            self.levels.lerp_(levels, per_image(keep).to(levels))
            self.loss = torch.where(keep, loss, self.loss)
            self.finished = self.finished | finishes


def evaluate_levels(problem: Problem, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Query the target; returns the loss to maximise and whether the search may end, (N,) each."""
    logits = problem.logits(levels / LEVELS)
    targeted = isinstance(problem.criterion, Targeted)
    loss = problem.criterion.cross_entropy(logits) if targeted else problem.criterion.margin(logits)
    return loss, problem.criterion.reached(logits) | ~loss.isfinite()


def signs(uniform: Tensor) -> Tensor:
    """Turn numbers from U[0, 1) into −1 and 1."""
    return torch.where(uniform < 0.5, -1.0, 1.0)


def between(first: Tensor, end: Tensor, size: int) -> Tensor:
    """Return which of `size` places lie from `first` up to but not at `end`, bool, (..., size)."""
    places = torch.arange(size, device=first.device)
    return (places >= first) & (places < end)


SQUARE_SPEC = AttackSpec(
    kind=Square,
    paper={"queries": 5000, "p_init": 0.8},
    library={"queries": 5000, "p_init": 0.8},
    summary="random search with squares, without gradients",
    source="Andriushchenko 2020, arXiv:1912.00049",
    random=True,
)
