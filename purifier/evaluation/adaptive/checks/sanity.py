"""Checks that an adaptive evaluation has to pass: one failure, and its numbers say nothing (Athalye 2018)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.compute as pc

from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig, Cell
from impure.purifier.evaluation.adaptive.adaptive_scores import (
    Tables,
    Verdicts,
    is_level,
    probe_verdicts,
)
from impure.purifier.evaluation.adaptive.cells import (
    Subject,
    blind,
    curve_cells,
    fixed_draws,
    one_step,
    queries_alone,
    strongest,
)
from impure.purifier.evaluation.adaptive.checks.gradient_probe import GradientProbe
from impure.purifier.evaluation.adaptive.checks.self_checks import SelfChecks
from impure.purifier.evaluation.paired import mcnemar

SIGNIFICANT = 0.05
NOTHING_LEFT = 0.05  # accuracy at a budget that hides every image
LEAST_COSINE = 0.1  # between gradients of two draws
MOST_ZEROS = 0.5  # of a gradient's values


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line below the table."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class _Measured:
    """The verdicts of one subject's cells."""

    config: AdaptiveConfig
    subject: Subject
    tables: Tables

    def __contains__(self, cell: Cell) -> bool:
        return cell in self.tables

    def verdicts(self, cell: Cell) -> Verdicts:
        """Those of a cell, of the images and draws that all cells share."""
        return probe_verdicts(self.config, self.tables[cell])

    def first(self, eps: int) -> Cell:
        """The strongest attack on all images."""
        return strongest(self.config, self.subject, eps)

    def no_stronger(self, name: str, strong: Cell, weak: Cell) -> Check:
        """Whether a stronger attacker leaves no more images right, beyond chance."""
        one, other = self.verdicts(strong), self.verdicts(weak)
        more, fewer = int((one.vote & ~other.vote).sum()), int((~one.vote & other.vote).sum())
        chance = mcnemar(more, fewer)
        detail = f"{strong.label} {one.vote.mean():.1%}, {weak.label} {other.vote.mean():.1%}"
        return Check(name=name, passed=more <= fewer or chance >= SIGNIFICANT, detail=detail)

    def level(self, name: str, cells: dict[int, Cell]) -> Check:
        """Whether the last two efforts, by their sizes, leave the same accuracy."""
        one, other = (self.tables[cell] for cell in list(cells.values())[-2:])
        rates = [f"{size}: {self.verdicts(cell).share.mean():.1%}" for size, cell in cells.items()]
        return Check(name=name, passed=is_level(self.config, one, other), detail=", ".join(rates))


def sanity(
    config: AdaptiveConfig,
    subject: Subject,
    tables: Tables,
    gradients: GradientProbe,
    known: SelfChecks,
) -> list[Check]:
    """The checks of one defence before one target.

    Args:
        config: The evaluation.
        subject: What was attacked.
        tables: The rows of all its cells.
        gradients: What was measured of gradients.
        known: What became of attacks whose outcome is known.
    """
    measured = _Measured(config, subject, tables)
    largest = measured.first(max(config.eps))
    checks = [
        measured.no_stronger("steps beat one step", largest, one_step(largest, config)),
        measured.no_stronger("gradients beat queries", largest, queries_alone(largest, config)),
        *_knowledge(measured),
        _large(measured),
        *_steps(measured),
        Check(
            name="gradients are there",
            passed=gradients.zero_images == 0 and gradients.zeros <= MOST_ZEROS,
            detail=f"{gradients.zeros:.1%} of values are zero, {gradients.zero_images} images without any",
        ),
        Check(
            name="a planted adversarial example is found",
            passed=known.found == known.images,
            detail=f"on {known.found} of {known.images} images",
        ),
        _stored(tables),
        _plain(measured, known),
    ]
    return checks + (_draws(measured, gradients) if subject.is_random else [])


def _knowledge(measured: _Measured) -> Iterator[Check]:
    """Who knows more is stronger, at each budget."""
    for eps in measured.config.eps:
        full = measured.first(eps)
        through, transfer = replace(full, knowledge="straight-through"), blind(full)
        if through in measured:
            yield measured.no_stronger(f"full beats straight-through at {eps}/255", full, through)
            yield measured.no_stronger(f"straight-through beats blind at {eps}/255", through, transfer)
        yield measured.no_stronger(f"full beats transfer from the bare target at {eps}/255", full, transfer)


def _large(measured: _Measured) -> Check:
    """Nothing is right where the budget hides everything."""
    largest = curve_cells(measured.config, measured.subject)["eps"][-1]
    rate = float(measured.verdicts(largest).share.mean())
    return Check(
        name=f"accuracy falls to nothing at {largest.eps}/255",
        passed=rate <= NOTHING_LEFT,
        detail=f"{rate:.1%}",
    )


def _steps(measured: _Measured) -> Iterator[Check]:
    """The attack has converged, at each budget."""
    cells = curve_cells(measured.config, measured.subject)["steps"]
    for eps in sorted({cell.eps for cell in cells}):
        by_steps = {cell.steps: cell for cell in cells if cell.eps == eps}
        yield measured.level(f"twice the steps change nothing at {eps}/255", by_steps)


def _draws(measured: _Measured, gradients: GradientProbe) -> list[Check]:
    """The expectation over draws has settled, draws agree on where to go, and knowing them helps.

    The last at the smallest budget: at large ones a fixed draw leaves pixels at black or white, where it
    would have to be another one to give a gradient.
    """
    by_draws = {cell.eot: cell for cell in curve_cells(measured.config, measured.subject)["eot"]}
    fresh = measured.first(min(measured.config.eps))
    return [
        measured.level("more draws a gradient change nothing", by_draws),
        Check(
            name="gradients of ten draws agree",
            passed=gradients.cosine >= LEAST_COSINE,
            detail=f"mean cosine {gradients.cosine:.2f}",
        ),
        measured.no_stronger(
            "fixed draws are no harder than fresh ones", fixed_draws(fresh, measured.config), fresh
        ),
    ]


def _stored(tables: Tables) -> Check:
    """Whether every verdict was on images as they would be stored, inside the budget."""
    largest = {cell: pc.max(table["linf_255"]).as_py() for cell, table in tables.items()}
    outside = [cell.label for cell, change in largest.items() if change > cell.eps]
    return Check(
        name="verdicts are on 8-bit images inside the budget",
        passed=not outside,
        detail=", ".join(outside) or f"{len(largest)} attacks and controls",
    )


def _plain(measured: _Measured, known: SelfChecks) -> Check:
    """Without a defence the attacker's knowledge makes no difference: bytes, and of `none` every image."""
    same = [known.is_plain]
    if measured.subject.defence == "none":
        for cell in map(measured.first, measured.config.eps):
            through, bare = (Verdicts.of(measured.tables[attack]).vote for attack in (cell, blind(cell)))
            same.append(np.array_equal(through, bare))
    return Check(name="no defence gives the plain attack's numbers", passed=all(same), detail="byte by byte")
