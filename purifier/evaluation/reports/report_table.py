"""An evaluation's tables for terminal and Markdown, and what has to be known to read them."""

from collections.abc import Callable

from impure.manifests.base.tables import fitted_table, markdown_table
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.kind_files import as_texts
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.scores import Row

MEAN_LABEL = "mean of attacks"


def table(evaluation: Evaluation) -> str:
    """The Table-1 block of every target, aligned, with intervals: Markdown."""
    return "\n\n".join(
        markdown_table(*_block(evaluation, target, _percent)) for target in targets_of(evaluation)
    )


def terminal_table(evaluation: Evaluation, width: int) -> str:
    """The same for a terminal of so many columns: without intervals, or in pieces, where it is too wide."""
    return "\n\n".join(_fitting(evaluation, target, width) for target in targets_of(evaluation))


def _fitting(evaluation: Evaluation, target: str, width: int) -> str:
    """One target's table, as much of it side by side as fits."""
    text = markdown_table(*_block(evaluation, target, _percent))
    if text.index("\n") <= width:
        return text
    return fitted_table(*_block(evaluation, target, _rate), width, repeated=2)


def chosen_note(evaluation: Evaluation) -> str:
    """Why clean images without a defence are all right, where they are; else nothing."""
    bare = [row.accuracy for row in evaluation.rows if row.attack == CLEAN and row.defence == "none"]
    if set(bare) != {1.0}:
        return ""
    return (
        "Only images that the bare target classifies correctly were chosen: its 100 on clean ones is by "
        "choice, and every other figure is of these images."
    )


def rejected_note(evaluation: Evaluation) -> str:
    """What defences with detectors rejected, and how that counts; nothing where there are none."""
    shares: dict[tuple[str, str], str] = {}
    for row in evaluation.rows:
        if row.rejected is not None:
            share = f"{100 * row.rejected / row.n:.1f} % of {row.attack}"
            column = (row.label, row.target)
            shares[column] = f"{shares[column]}, {share}" if column in shares else share
    if not shares:
        return ""
    columns = "; ".join(f"{label} on {target} {share}" for (label, target), share in shares.items())
    return (
        f"Rejected by detectors: {columns}. That counts as right of attacked images, as wrong of clean ones."
    )


def remarks(evaluation: Evaluation) -> list[str]:
    """What has to stand beside the table."""
    return [note for note in (chosen_note(evaluation), rejected_note(evaluation)) if note]


def targets_of(evaluation: Evaluation) -> list[str]:
    """The targets in the order of the rows."""
    return list(dict.fromkeys(row.target for row in evaluation.rows))


def labels_of(evaluation: Evaluation, target: str) -> list[str]:
    """The columns of a target's table: defences, and how samples were combined."""
    return list(dict.fromkeys(row.label for row in evaluation.rows if row.target == target))


def rows_by_attack(evaluation: Evaluation, target: str) -> dict[str, dict[str, Row]]:
    """A target's rows by attack and column."""
    rows: dict[str, dict[str, Row]] = {}
    for row in evaluation.rows:
        if row.target == target:
            rows.setdefault(row.attack, {})[row.label] = row
    return rows


def means_by_label(evaluation: Evaluation, target: str) -> dict[str, float]:
    """A target's means over the attacks by column, in per cent; none where there is no attack."""
    return {mean.label: 100 * mean.accuracy for mean in evaluation.means if mean.target == target}


def _block(
    evaluation: Evaluation, target: str, shown: Callable[[Row], str]
) -> tuple[list[str], list[list[str]]]:
    """A target's table: header, and one line for each attack, then the mean."""
    labels = labels_of(evaluation, target)
    lines = [
        [attack, str(row_of[labels[0]].n), *(shown(row_of[label]) for label in labels)]
        for attack, row_of in rows_by_attack(evaluation, target).items()
    ]
    if means := means_by_label(evaluation, target):
        lines.append([MEAN_LABEL, "", *(f"{means[label]:.1f}" for label in labels)])
    return [target, "n", *labels], lines


def _rate(row: Row) -> str:
    """Accuracy in per cent."""
    return f"{100 * row.accuracy:.1f}"


def _percent(row: Row) -> str:
    """Accuracy and interval in per cent."""
    low, high = row.interval
    return f"{100 * row.accuracy:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def conditions_of(evaluation: Evaluation, images: str) -> dict[str, str]:
    """What has to be known to read the numbers, as text."""
    return as_texts({"images": images, **evaluation.conditions})
