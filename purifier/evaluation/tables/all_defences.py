"""Table 2: every defence before one target, with all attacks in a line (paper, Table 2)."""

from collections.abc import Sequence
from dataclasses import asdict

from impure.manifests.base.tables import fitted_table, markdown_table
from impure.purifier.evaluation.kind_files import Measured
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.class_scores import class_tables
from impure.purifier.evaluation.reports.report_table import means_by_label, remarks, targets_of
from impure.purifier.evaluation.tables.defence_rows import Grid, lines_of, numbers_of_images, percent

KIND = "table2"


def table2(evaluation: Evaluation, images: str, classes: Sequence[str] = ()) -> Measured:
    """The table with all that a report holds.

    Args:
        evaluation: What was measured.
        images: On which images, in words.
        classes: Class names in label order; numbers without.
    """
    targets = targets_of(evaluation)
    return Measured(
        kind=KIND,
        title=f"Table 2: defences before {', '.join(targets)}",
        notes=(
            f"Top-1 accuracy in %, on {images}; Wilson's 95 % intervals are in {KIND}.csv. The mean is over "
            f"the attacks, without clean. {numbers_of_images(evaluation.rows)}",
            *remarks(evaluation),
        ),
        table="\n\n".join(markdown_table(*_grid(evaluation, target)) for target in targets),
        rows=[{**row.record()} for row in evaluation.rows],
        conditions={"images": images, **evaluation.conditions},
        further={
            "means": [asdict(mean) for mean in evaluation.means],
            **class_tables(evaluation.predictions, classes),
        },
    )


def terminal_table2(evaluation: Evaluation, width: int) -> str:
    """The same for a terminal of so many columns."""
    return "\n\n".join(fitted_table(*_grid(evaluation, target), width) for target in targets_of(evaluation))


def _grid(evaluation: Evaluation, target: str) -> Grid:
    """A target's table."""
    lines = lines_of(evaluation, target)
    means = means_by_label(evaluation, target)
    attacks = [row.attack for row in next(iter(lines.values()))]
    return [target, *attacks, *(["mean"] if means else [])], [
        [label, *(percent(row.accuracy) for row in rows), *([f"{means[label]:.1f}"] if means else [])]
        for label, rows in lines.items()
    ]
