"""Accuracy of defences on stored attacks, as a section of a page: tables, bars, image strips."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from impure.manifests.base.images import GAIN
from impure.purifier.evaluation.image_strips import Example, class_name, panels
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.class_sections import class_tables_of
from impure.purifier.evaluation.reports.page import (
    Bar,
    Bars,
    Block,
    Cell,
    Picture,
    Section,
    StripOfPictures,
    Table,
    png_uri,
)
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

LEAD = (
    "Top-1 accuracy in per cent with Wilson's 95 % interval, on {images}. The mean is over the attacks, "
    "without clean."
)


def accuracy_section(
    evaluation: Evaluation,
    title: str,
    by_class: Mapping[str, Any],
    *,
    images: str,
    classes: Sequence[str] = (),
    line_a_defence: bool = False,
) -> Section:
    """What was measured, a block for each target.

    Args:
        evaluation: The measurement.
        title: Of the section.
        by_class: The records `classes` and `confusions`, as far as there are any.
        images: Which images were measured on.
        classes: Names of the classes in label order, for the strips.
        line_a_defence: Whether defences are lines and attacks columns, as where there are many defences.

    Raises:
        InputError: The records are not what they have to be.
    """
    return Section(
        title=title,
        lead=LEAD.format(images=images),
        notes=remarks(evaluation),
        blocks=[
            _block(evaluation, target, (_turned if line_a_defence else _table), by_class, classes)
            for target in targets_of(evaluation)
        ],
        conditions=conditions_of(evaluation, images),
    )


def _block(
    evaluation: Evaluation,
    target: str,
    tabulate: Callable[[Evaluation, str], Table],
    by_class: Mapping[str, Any],
    classes: Sequence[str],
) -> Block:
    """What is said of a target."""
    labels = labels_of(evaluation, target)
    groups = [
        (attack, [_bar(rows[label]) for label in labels if label in rows])
        for attack, rows in rows_by_attack(evaluation, target).items()
    ]
    return Block(
        title=f"Target {target}",
        tables=[tabulate(evaluation, target), *class_tables_of(by_class, target)],
        bars=Bars(labels=labels, groups=groups),
        strips_note=_strips_note(evaluation),
        strips=[_strip(example, classes) for example in evaluation.examples if example.target == target],
    )


def _table(evaluation: Evaluation, target: str) -> Table:
    """A line for each attack, and their mean below."""
    labels = labels_of(evaluation, target)
    means = means_by_label(evaluation, target)
    foot = [MEAN_LABEL, "", *(_mean(means, label).text for label in labels)]
    return Table(
        caption=f"Accuracy on {target}",
        header=["attack", "n", *labels],
        rows=[_line(attack, rows, labels) for attack, rows in rows_by_attack(evaluation, target).items()],
        foot=[Cell(text) for text in foot] if means else (),
    )


def _turned(evaluation: Evaluation, target: str) -> Table:
    """A line for each defence, and its mean at the end."""
    row_of = rows_by_attack(evaluation, target)
    means = means_by_label(evaluation, target)
    return Table(
        caption=f"Accuracy on {target}",
        header=["defence", *row_of, MEAN_LABEL],
        rows=[
            [Cell(label), *(_cell(rows.get(label)) for rows in row_of.values()), _mean(means, label)]
            for label in labels_of(evaluation, target)
        ],
    )


def _mean(means: Mapping[str, float], label: str) -> Cell:
    """A defence's mean over the attacks, where there is one."""
    return Cell(f"{means[label]:.1f}", sort=means[label]) if label in means else Cell("–")


def _line(attack: str, rows: dict[str, Row], labels: Sequence[str]) -> list[Cell]:
    """An attack's line of the table."""
    n = next(iter(rows.values())).n
    return [Cell(attack), Cell(str(n), sort=n), *(_cell(rows.get(label)) for label in labels)]


def _cell(row: Row | None) -> Cell:
    """A row's accuracy and interval in per cent."""
    if row is None:
        return Cell("–")
    low, high = row.interval
    return Cell(f"{100 * row.accuracy:.1f}", f"{100 * low:.1f}–{100 * high:.1f}", row.accuracy)


def _bar(row: Row) -> Bar:
    """A row as a bar."""
    low, high = row.interval
    return Bar(row.label, 100 * row.accuracy, 100 * low, 100 * high)


def _strips_note(evaluation: Evaluation) -> str:
    """How to read the strips."""
    note = (
        "One sample of each attack, in each row another. Perturbation and residual are differences from the "
        f"clean image, {GAIN} times as large, around grey."
    )
    samples, combine = evaluation.conditions.get("samples", 1), evaluation.conditions.get("combine")
    if samples == 1:
        return note
    shown = "the mean of the samples" if combine == "average" else "the first sample"
    return f"{note} Of random defences it shows {shown}; the prediction is the {combine} of {samples}."


def _strip(shown: Example, classes: Sequence[str]) -> StripOfPictures:
    """The pictures of one example with captions."""
    pictures = [
        Picture(panel.caption, png_uri(panel.pixels))
        if panel.prediction is None
        else Picture(
            panel.caption,
            png_uri(panel.pixels),
            class_name(panel.prediction, classes),
            panel.prediction == shown.label,
        )
        for panel in panels(shown)
    ]
    detail = f"class: {class_name(shown.label, classes)} · {shown.key}"
    return StripOfPictures(shown.attack, detail, pictures)
