"""An adaptive evaluation as a table with its checks, as CSV and as JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from impure.manifests.base.files import atomic_path, writing
from impure.manifests.base.tables import markdown_table
from impure.purifier.evaluation.adaptive.adaptive_scores import AdaptiveRow
from impure.purifier.evaluation.adaptive.run_adaptive import SubjectResult

COLUMNS = ("attack", "ε", "knowledge", "mean of draws", "worst", "vote", "steps × EOT", "n", "s/image")


def write_adaptive_report(
    results: Sequence[SubjectResult], conditions: Mapping[str, Any], out: Path
) -> list[Path]:
    """Write `adaptive.md`, `adaptive.csv` and `adaptive.json` over those of an earlier part.

    Raises:
        WriteError: The folder cannot be written.
    """
    texts = {
        "adaptive.md": markdown(results, conditions),
        "adaptive.csv": as_csv(results),
        "adaptive.json": json.dumps(document(results, conditions), indent=1, allow_nan=False) + "\n",
    }
    with writing(out):
        for name, text in texts.items():
            with atomic_path(out / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return [out / name for name in texts]


def markdown(results: Sequence[SubjectResult], conditions: Mapping[str, Any]) -> str:
    """Tables, checks and conditions."""
    parts = ["# Adaptive evaluation", *(block(result) for result in results)]
    listed = "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in conditions.items())
    return "\n\n".join([*parts, "## Conditions", listed]) + "\n"


def block(result: SubjectResult) -> str:
    """The table and the checks of one defence before one target."""
    subject = result.subject
    title = f"## {subject.defence} before {subject.target}"
    if result.is_broken:
        title += " (a check failed: these numbers say nothing about the defence)"
    table = markdown_table(list(COLUMNS), [_cells(row) for row in result.rows])
    checks = "\n".join(
        f"- {'pass' if check.passed else 'FAIL'}: {check.name} ({check.detail})" for check in result.checks
    )
    return "\n\n".join([title, table, checks])


def _cells(row: AdaptiveRow) -> list[object]:
    """A row of the table."""
    cell = row.cell
    rates = [
        f"{100 * rate:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        for rate, (low, high) in (
            (row.mean, row.mean_interval),
            (row.worst, row.worst_interval),
            (row.vote, row.vote_interval),
        )
    ]
    effort = f"{cell.steps} × {cell.eot}" if cell.steps else "-"
    budget = f"{cell.eps}/255" if cell.eps else "-"
    return [cell.attack, budget, cell.knowledge, *rates, effort, row.n, f"{row.seconds:.2f}"]


def as_csv(results: Sequence[SubjectResult]) -> str:
    """All rows."""
    records = [row.record() for result in results for row in result.rows]
    file = io.StringIO()
    writer = csv.DictWriter(file, list(records[0]) if records else [])
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def document(results: Sequence[SubjectResult], conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for programs."""
    return {
        "conditions": dict(conditions),
        "defences": [
            {
                **asdict(result.subject),
                "broken": result.is_broken,
                "rows": [row.record() for row in result.rows],
                "checks": [asdict(check) for check in result.checks],
            }
            for result in results
        ],
    }
