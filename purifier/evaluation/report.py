"""An evaluation as terminal table, Markdown, CSV, JSON and one self-contained HTML page."""

import base64
import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2

from impure.manifests.base.files import atomic_path, writing
from impure.manifests.base.images import GAIN, Pixels, encode_png
from impure.manifests.base.tables import markdown_table
from impure.purifier.evaluation.image_strips import Example, class_name, panels
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.scores import COLUMNS, Row

MEAN_LABEL = "mean of attacks"


def write_report(
    evaluation: Evaluation, out: Path, *, images: str, classes: Sequence[str] = ()
) -> list[Path]:
    """Write `report.md`, `report.csv`, `report.json` and `report.html`.

    Args:
        evaluation: What to report.
        out: The folder, made if it is missing; where it holds a report, its name gets a number.
        images: Which images were measured on, for example "built-in, 10-way".
        classes: Names of the classes in label order, for the image strips; numbers without.

    Returns:
        The files.

    Raises:
        WriteError: The folder cannot be written.
    """
    texts = {
        "report.md": markdown(evaluation, images),
        "report.csv": as_csv(evaluation),
        "report.json": json.dumps(as_document(evaluation, images), indent=1, allow_nan=False) + "\n",
        "report.html": html(evaluation, images, classes),
    }
    out = _without_report(out)
    with writing(out):
        for name, text in texts.items():
            with atomic_path(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def _without_report(out: Path) -> Path:
    """The folder itself, or the first of NAME-2, NAME-3, … that holds no report: none is ever lost."""
    out = out if out.name else out.absolute()  # the working folder has no name to put a number behind
    numbered = (out.with_name(f"{out.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([out], numbered) if not any(folder.glob("report.*")))


def table(evaluation: Evaluation) -> str:
    """The Table-1 block of every target, aligned: readable in a terminal, and Markdown."""
    blocks = []
    for target in _targets(evaluation):
        header, *lines = _cells(evaluation, target)
        blocks.append(markdown_table(header, lines))
    return "\n\n".join(blocks)


def markdown(evaluation: Evaluation, images: str) -> str:
    """The tables with their conditions."""
    conditions = "\n".join(f"- {name}: {value}" for name, value in _conditions(evaluation, images).items())
    note = "Accuracy (top-1, %) with Wilson's 95 % interval. The mean is over the attacks, without clean."
    return f"# Purification: accuracy under attack\n\n{note}\n\n{table(evaluation)}\n\n{conditions}\n"


def as_csv(evaluation: Evaluation) -> str:
    """One line for each target, attack, defence and combination of samples; accuracies between 0 and 1."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.record() for row in evaluation.rows)
    return text.getvalue()


def as_document(evaluation: Evaluation, images: str) -> dict[str, Any]:
    """The evaluation as JSON can hold it."""
    means = [asdict(mean) for mean in evaluation.means]
    conditions = {"images": images, **evaluation.conditions}
    return {"conditions": conditions, "rows": [row.record() for row in evaluation.rows], "means": means}


def html(evaluation: Evaluation, images: str, classes: Sequence[str] = ()) -> str:
    """One page that needs nothing else: tables, image strips, conditions."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    blocks = [
        {
            "target": target,
            "cells": _cells(evaluation, target),
            "strips": [
                _strip(example, classes) for example in evaluation.examples if example.target == target
            ],
        }
        for target in _targets(evaluation)
    ]
    return environment.get_template("report.html").render(
        blocks=blocks, conditions=_conditions(evaluation, images), amplify=GAIN
    )


def _targets(evaluation: Evaluation) -> list[str]:
    """The targets in the order of the rows."""
    return list(dict.fromkeys(row.target for row in evaluation.rows))


def _cells(evaluation: Evaluation, target: str) -> list[list[str]]:
    """A target's table as text: header, one line for each attack, the mean."""
    rows = [row for row in evaluation.rows if row.target == target]
    defences = list(dict.fromkeys(row.label for row in rows))
    row_of = {(row.attack, row.label): row for row in rows}
    lines = [[target, "n", *defences]]
    for attack in dict.fromkeys(row.attack for row in rows):
        cells = [_percent(row_of[attack, defence]) for defence in defences]
        lines.append([attack, str(row_of[attack, defences[0]].n), *cells])
    means = [mean for mean in evaluation.means if mean.target == target]
    if means:
        lines.append([MEAN_LABEL, "", *(f"{100 * mean.accuracy:.1f}" for mean in means)])
    return lines


def _percent(row: Row) -> str:
    """Accuracy and interval in per cent."""
    low, high = row.interval
    return f"{100 * row.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _conditions(evaluation: Evaluation, images: str) -> dict[str, str]:
    """What has to be known to read the numbers, as text."""
    shown: Mapping[str, Any] = {"images": images, **evaluation.conditions}
    return {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in shown.items()
    }


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
