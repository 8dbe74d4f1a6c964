"""An evaluation as one HTML page that needs nothing else: tables, charts, image strips, conditions."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from impure.manifests.base.images import GAIN, Pixels, encode_png
from impure.purifier.evaluation.image_strips import Example, class_name, panels
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.report_table import (
    MEAN_LABEL,
    conditions_of,
    labels_of,
    means_by_label,
    remarks,
    rows_by_attack,
    targets_of,
)
from impure.purifier.evaluation.scores import Row

COLOURS = 8  # of bars, in the page's style; further columns begin again


def html(evaluation: Evaluation, images: str, classes: Sequence[str] = ()) -> str:
    """One page that needs nothing else."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("report.html").render(
        blocks=[_block(evaluation, target, classes) for target in targets_of(evaluation)],
        conditions=conditions_of(evaluation, images),
        note=" ".join(remarks(evaluation)),
        mean_label=MEAN_LABEL,
        colours=COLOURS,
        amplify=GAIN,
    )


def _block(evaluation: Evaluation, target: str, classes: Sequence[str]) -> dict[str, Any]:
    """What the page shows of a target."""
    labels = labels_of(evaluation, target)
    means = means_by_label(evaluation, target)
    return {
        "target": target,
        "labels": labels,
        "lines": [
            {
                "attack": attack,
                "n": row_of[labels[0]].n,
                "cells": [{"label": label, **_cell(row_of[label])} for label in labels],
            }
            for attack, row_of in rows_by_attack(evaluation, target).items()
        ],
        "means": [f"{means[label]:.1f}" for label in labels] if means else [],
        "strips": [_strip(example, classes) for example in evaluation.examples if example.target == target],
    }


def _cell(row: Row) -> dict[str, str]:
    """A row's accuracy and interval in per cent."""
    low, high = row.interval
    return {"rate": f"{100 * row.accuracy:.1f}", "low": f"{100 * low:.1f}", "high": f"{100 * high:.1f}"}


def _strip(shown: Example, classes: Sequence[str]) -> dict[str, Any]:
    """The pictures of one example with captions."""
    return {
        "attack": shown.attack,
        "key": shown.key,
        "label": class_name(shown.label, classes),
        "panels": [
            {
                "caption": panel.caption,
                "uri": data_uri(panel.pixels),
                "prediction": "" if panel.prediction is None else class_name(panel.prediction, classes),
                "right": panel.prediction == shown.label,
            }
            for panel in panels(shown)
        ],
    }


def data_uri(pixels: Pixels) -> str:
    """RGB pixels (H, W, 3) as a PNG inside an address."""
    return "data:image/png;base64," + base64.b64encode(encode_png(pixels)).decode()
