"""Accuracy under the first attack against its budget, its steps and its draws."""

from typing import Any

from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig
from impure.purifier.evaluation.adaptive.adaptive_scores import Accuracy, Tables, probe_verdicts
from impure.purifier.evaluation.adaptive.cells import Subject, curve_cells

Curves = dict[str, list[dict[str, Any]]]
"""By what changes (`eps`, `steps`, `eot`), points with attack, eps, steps, eot, samples and accuracy."""


def curves_of(config: AdaptiveConfig, subject: Subject, tables: Tables) -> Curves:
    """The points of one defence before one target, of the images that all cells share."""
    samples = min(config.samples) if subject.is_random else 1
    return {
        axis: [
            {
                "attack": cell.attack,
                "eps": cell.eps,
                "steps": cell.steps,
                "eot": cell.eot,
                "samples": samples,
                **accuracy_record(Accuracy.of(probe_verdicts(config, tables[cell]))),
            }
            for cell in cells
        ]
        for axis, cells in curve_cells(config, subject).items()
    }


def accuracy_record(accuracy: Accuracy) -> dict[str, Any]:
    """Columns of an accuracy: `n`, and each verdict with the ends of its interval."""
    record: dict[str, Any] = {"n": accuracy.n}
    for verdict, (low, high) in accuracy.intervals.items():
        rate = getattr(accuracy, verdict)
        record |= {verdict: rate, f"{verdict}_low": low, f"{verdict}_high": high}
    return record
