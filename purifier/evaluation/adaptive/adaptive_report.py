"""An adaptive evaluation as tables with their checks, as CSV, JSON and curves."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from impure.manifests.base.files import write_text
from impure.manifests.base.tables import markdown_table
from impure.purifier.evaluation.adaptive.adaptive_scores import Accuracy, AdaptiveRow
from impure.purifier.evaluation.adaptive.checks.sanity import Check
from impure.purifier.evaluation.adaptive.curve_plots import save_curves
from impure.purifier.evaluation.adaptive.subject_run import SubjectResult
from impure.purifier.evaluation.kind_files import as_texts, csv_text

KIND = "adaptive"
COLUMNS = (
    "attack", "ε", "knowledge", "draws", "mean", "worst", "vote", "clean", "noise", "steps × EOT × restarts",
    "converged", "n", "gradients", "GFLOP", "s",
)  # fmt: skip
READING = (
    "Top-1 accuracy in % with Wilson's 95 % interval: mean of draws, images right in every draw (worst), "
    "vote of draws. Clean images and random noise of the attack's size stand beside it under the same "
    "verdicts (mean / worst / vote). Gradients, GFLOP and seconds are of the attack on one image."
)
BASELINE = "adversarial-training"
NO_BASELINE = (
    "No adversarially trained classifier stands beside these numbers; a purifier has to beat one at equal "
    f"compute: add --defence {BASELINE}:weights=RUN."
)
PUBLISHED = (
    "Imagenette 160 px, ResNet-50, ε 4/255, 256 images, mean / worst of 10 draws (DiffHammer 2024): "
    "DiffPure 38.4 / 31.3, GDMP 34.0 / 28.9, LM 26.3 / 21.9",
    "ImageNet, ε 4/255, exact-gradient AutoAttack, worst of 8 / vote of 8 (DiffBreak, arXiv:2411.16598): "
    "DiffPure + WRN-50-2 12.1 / 29.7, + DeiT-S 21.1 / 32.8",
    "ImageNet, ε 4/255, AutoAttack on adversarially trained classifiers (RobustBench): ResNet-50 35.0, "
    "ConvNeXt-B 55.8",
)
"""Others' measurements, in %."""


def write_adaptive_report(
    results: Sequence[SubjectResult], conditions: Mapping[str, Any], out: Path
) -> list[Path]:
    """Write `adaptive.md`, `.csv`, `.json` and the curves over those of an earlier part.

    Raises:
        WriteError: The folder cannot be written.
    """
    texts = {
        f"{KIND}.md": markdown(results, conditions),
        f"{KIND}.csv": csv_text([record for result in results for record in result.records]),
        f"{KIND}.json": json.dumps(document(results, conditions), indent=1, allow_nan=False) + "\n",
    }
    paths = [write_text(out / name, text) for name, text in texts.items()]
    return [*paths, *save_curves({_name(result): result.curves for result in results}, out)]


def document(results: Sequence[SubjectResult], conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, for programs; docs/evaluation.md describes its keys."""
    return {
        "kind": KIND,
        "conditions": dict(conditions),
        "notes": remarks(results),
        "rows": [record for result in results for record in result.records],
        "defences": [
            {
                "target": result.subject.target,
                "defence": result.subject.defence,
                "broken": result.is_broken,
                "checks": [
                    {"name": check.name, "passed": check.passed, "detail": check.detail}
                    for check in result.checks
                ],
                "curves": result.curves,
            }
            for result in results
        ],
        "published": list(PUBLISHED),
    }


def markdown(results: Sequence[SubjectResult], conditions: Mapping[str, Any]) -> str:
    """Tables, checks, conditions and others' measurements."""
    listed = [f"- {name}: {text}" for name, text in as_texts(conditions).items()]
    return (
        "\n\n".join(
            [
                "# Adaptive evaluation",
                *remarks(results),
                *(block(result) for result in results),
                "## Conditions",
                "\n".join(listed),
                "## Measured by others",
                "\n".join(f"- {line}" for line in PUBLISHED),
            ]
        )
        + "\n"
    )


def remarks(results: Sequence[SubjectResult]) -> list[str]:
    """What has to be known to read the tables."""
    has_baseline = any(result.subject.defence.startswith(BASELINE) for result in results)
    return [READING] if has_baseline else [READING, NO_BASELINE]


def block(result: SubjectResult) -> str:
    """The table and the checks of one defence before one target."""
    title = f"## {_name(result)}"
    if result.is_broken:
        title += " (a check failed: these numbers say nothing about the defence)"
    table = markdown_table(list(COLUMNS), [_cells(row) for row in result.rows])
    return "\n\n".join([title, table, "\n".join(map(_line, result.checks))])


def _name(result: SubjectResult) -> str:
    """A defence and a target, for people."""
    return f"{result.subject.defence} before {result.subject.target}"


def _line(check: Check) -> str:
    """A check, for people."""
    return f"- {'pass' if check.passed else 'FAIL'}: {check.name} ({check.detail})"


def _cells(row: AdaptiveRow) -> list[object]:
    """A row of the table."""
    cell = row.cell
    rates = {"mean": row.accuracy.mean, "worst": row.accuracy.worst, "vote": row.accuracy.vote}
    intervals = row.accuracy.intervals
    return [
        cell.attack,
        f"{cell.eps}/255" if cell.eps else "-",
        cell.knowledge,
        row.samples,
        *(
            f"{100 * rate:.1f} [{100 * intervals[verdict][0]:.1f}, {100 * intervals[verdict][1]:.1f}]"
            for verdict, rate in rates.items()
        ),
        _three(row.clean),
        _three(row.noise),
        f"{cell.steps} × {cell.eot} × {cell.restarts}" if cell.steps else "-",
        {True: "yes", False: "no", None: "-"}[row.converged],
        row.accuracy.n,
        f"{row.grad_evals:.0f}",
        f"{row.flop / 1e9:.3g}",
        f"{row.seconds:.2f}",
    ]


def _three(accuracy: Accuracy | None) -> str:
    """The three verdicts on a control."""
    if accuracy is None:
        return "-"
    return " / ".join(f"{100 * rate:.1f}" for rate in (accuracy.mean, accuracy.worst, accuracy.vote))
