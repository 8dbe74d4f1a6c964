"""Checks that an adaptive evaluation has to pass: one failure, and its numbers say nothing (Athalye 2018)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig, Cell
from impure.purifier.evaluation.adaptive.adaptive_scores import Verdicts, mcnemar
from impure.purifier.evaluation.adaptive.cells import (
    EOT_LEVELS,
    LARGE_EPS,
    Subject,
    one_step,
    probe_of,
    queries_alone,
    strongest,
)
from impure.purifier.evaluation.adaptive.gradient_probe import GradientProbe

SIGNIFICANT = 0.05
NOTHING_LEFT = 0.05  # accuracy at a budget that hides every image
POINT = 0.01
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
    tables: Mapping[Cell, pa.Table]

    def __contains__(self, cell: Cell) -> bool:
        return cell in self.tables

    def verdicts(self, cell: Cell) -> Verdicts:
        """Those of a cell, of the probe's images alone."""
        return Verdicts.of(self.tables[cell]).first(self.config.probe)

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

    def level(self, name: str, one: Cell, other: Cell) -> Check:
        """Whether two efforts leave the same accuracy, to a point or an image."""
        rates = [float(self.verdicts(cell).share.mean()) for cell in (one, other)]
        most = max(POINT, 1 / len(self.verdicts(one).share)) + 1e-9
        return Check(
            name=name,
            passed=abs(rates[0] - rates[1]) <= most,
            detail=f"{rates[0]:.1%} and {rates[1]:.1%}",
        )


def sanity(
    config: AdaptiveConfig, subject: Subject, tables: Mapping[Cell, pa.Table], gradients: GradientProbe
) -> list[Check]:
    """The checks of one defence before one target.

    Args:
        config: The evaluation.
        subject: What was attacked.
        tables: The rows of all its cells.
        gradients: What was measured of gradients.
    """
    measured = _Measured(config, subject, tables)
    largest = measured.first(max(config.eps))
    checks = [
        measured.no_stronger("steps beat one step", largest, one_step(largest, config)),
        measured.no_stronger("gradients beat queries", largest, queries_alone(largest, config)),
        *_knowledge(measured),
        _large(measured, largest),
        measured.level(
            "twice the steps change nothing", largest, probe_of(largest, config, steps=2 * config.steps)
        ),
        Check(
            name="gradients are there",
            passed=gradients.zero_images == 0 and gradients.zeros <= MOST_ZEROS,
            detail=f"{gradients.zeros:.1%} of values are zero, {gradients.zero_images} images without any",
        ),
    ]
    if subject.is_random:
        checks += _draws(measured, gradients)
    if subject.defence == "none":
        checks.append(_plain(measured))
    return checks


def _knowledge(measured: _Measured) -> list[Check]:
    """Who knows more is stronger, at each budget."""
    checks = []
    for eps in measured.config.eps:
        full = measured.first(eps)
        through = replace(full, knowledge="straight-through")
        blind = replace(full, knowledge="blind", eot=1)
        if through in measured:
            checks.append(measured.no_stronger(f"full beats straight-through at {eps}/255", full, through))
        checks.append(measured.no_stronger(f"full beats blind at {eps}/255", full, blind))
    return checks


def _large(measured: _Measured, largest: Cell) -> Check:
    """Nothing is right where the budget hides everything."""
    rate = float(measured.verdicts(probe_of(largest, measured.config, eps=LARGE_EPS)).share.mean())
    return Check(
        name=f"accuracy falls to nothing at {LARGE_EPS}/255",
        passed=rate <= NOTHING_LEFT,
        detail=f"{rate:.1%}",
    )


def _draws(measured: _Measured, gradients: GradientProbe) -> list[Check]:
    """The expectation over draws has settled, and draws agree on where to go."""
    smallest = measured.first(min(measured.config.eps))
    levels = [probe_of(smallest, measured.config, eot=eot) for eot in EOT_LEVELS]
    rates = [
        f"{eot}: {measured.verdicts(cell).share.mean():.1%}"
        for eot, cell in zip(EOT_LEVELS, levels, strict=True)
    ]
    level = measured.level("more draws a gradient change nothing", *levels[-2:])
    return [
        replace(level, detail=", ".join(rates)),
        Check(
            name="gradients of two draws agree",
            passed=gradients.cosine >= LEAST_COSINE,
            detail=f"mean cosine {gradients.cosine:.2f}",
        ),
    ]


def _plain(measured: _Measured) -> Check:
    """Without a defence the attacker's knowledge makes no difference, image by image."""
    same = []
    for eps in measured.config.eps:
        full = measured.first(eps)
        blind = replace(full, knowledge="blind", eot=1)
        same.append(np.array_equal(measured.verdicts(full).vote, measured.verdicts(blind).vote))
    return Check(
        name="no defence gives the plain attack's numbers", passed=all(same), detail="image by image"
    )
