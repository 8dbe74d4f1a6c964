"""Table 1 as Markdown, CSV, JSON, one self-contained HTML page and a table of images, in files."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from impure.manifests.base.files import write_text
from impure.purifier.evaluation.image_predictions import write_predictions
from impure.purifier.evaluation.kind_files import csv_text, unused_folder
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.class_scores import class_tables
from impure.purifier.evaluation.reports.report_pictures import write_pictures
from impure.purifier.evaluation.reports.report_table import conditions_of, remarks, table
from impure.purifier.evaluation.tables.table1_page import html


def write_report(
    evaluation: Evaluation, out: Path, *, images: str, classes: Sequence[str] = ()
) -> list[Path]:
    """Write `report.md`, `.csv`, `.json` and `.html`, two tables of classes, all predictions, and pictures.

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
    by_class = class_tables(evaluation.predictions, classes)
    texts = {
        "report.md": markdown(evaluation, images),
        "report.csv": as_csv(evaluation),
        "report.json": json.dumps(as_document(evaluation, images, classes), indent=1, allow_nan=False) + "\n",
        "report.html": html(evaluation, images, classes),
        **{f"report-{name}.csv": csv_text(rows) for name, rows in by_class.items() if rows},
    }
    out = unused_folder(out, "report")
    paths = [write_text(out / name, text) for name, text in texts.items()]
    predictions = write_predictions(out, "report", evaluation.predictions, evaluation.conditions, classes)
    pictures = write_pictures(evaluation, out, "report", classes)
    return [*paths, predictions, *pictures]


def markdown(evaluation: Evaluation, images: str) -> str:
    """The tables with their conditions."""
    conditions = "\n".join(f"- {name}: {value}" for name, value in conditions_of(evaluation, images).items())
    heading = "Accuracy (top-1, %) with Wilson's 95 % interval. The mean is over the attacks, without clean."
    above = "\n\n".join([heading, *remarks(evaluation)])
    return f"# Purification: accuracy under attack\n\n{above}\n\n{table(evaluation)}\n\n{conditions}\n"


def as_csv(evaluation: Evaluation) -> str:
    """One line for each target, attack, defence and combination of samples; accuracies between 0 and 1."""
    return csv_text([row.record() for row in evaluation.rows])


def as_document(evaluation: Evaluation, images: str, classes: Sequence[str] = ()) -> dict[str, Any]:
    """The evaluation as JSON can hold it; `docs/evaluation.md` describes the keys."""
    return {
        "kind": "table1",
        "conditions": {"images": images, **evaluation.conditions},
        "rows": [row.record() for row in evaluation.rows],
        "means": [asdict(mean) for mean in evaluation.means],
        **class_tables(evaluation.predictions, classes),
    }
