"""A paired comparison as tables with the images on which two defences differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import pyarrow as pa

from impure.manifests.base.tables import fitted_table, markdown_table
from impure.manifests.collection.shard_id import stem_of
from impure.purifier.evaluation.image_strips import class_name
from impure.purifier.evaluation.kind_files import Measured
from impure.purifier.evaluation.paired import p_text
from impure.purifier.evaluation.tables.comparison import (
    AnswerPair,
    PairedRow,
    compare,
    unpaired,
)
from impure.purifier.evaluation.tables.defence_rows import Grid, percent

KIND = "compare"
LISTED = 3  # images of an attack and either kind that the page names; the CSV names all


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two defences on the same images.

    Attributes:
        first: What the other is compared with.
        second: The other.
        rows: Of each target and attack, and of all.
        differing: The answers of which one alone is right.
        unpaired: Answers without a counterpart.
    """

    first: str
    second: str
    rows: Sequence[PairedRow]
    differing: Sequence[AnswerPair]
    unpaired: int


def compare_all(predictions: pa.Table, names: Sequence[str]) -> list[Comparison]:
    """Compare each defence with the first.

    Args:
        predictions: Of all; see `image_predictions.SCHEMA`.
        names: The defences, at least two.

    Raises:
        InputError: Two have no image in common.
    """
    first, *others = names
    comparisons = []
    for second in others:
        rows, differing = compare(predictions, first, second)
        comparisons.append(
            Comparison(
                first=first,
                second=second,
                rows=rows,
                differing=differing,
                unpaired=unpaired(predictions, rows),
            )
        )
    return comparisons


def comparison_report(
    comparisons: Sequence[Comparison],
    conditions: Mapping[str, Any],
    classes: Sequence[str] = (),
    strips: str = "",
) -> Measured:
    """All comparisons with all that a report holds.

    Args:
        comparisons: At least one, all with the same first defence.
        conditions: What has to be known to read them.
        classes: Class names in label order; numbers without.
        strips: File of the image strips, which will lie beside the page; "" for none.
    """
    blocks = [block for comparison in comparisons for block in _blocks(comparison, classes)]
    seconds = ", ".join(comparison.second for comparison in comparisons)
    picture = [f"![Images that one alone gets right]({strips})"] if strips else []
    return Measured(
        kind=KIND,
        title=f"{comparisons[0].first} and {seconds} on the same images",
        notes=(
            "Accuracy of A and of B in %; B - A in points, with its 95 % interval for pairs; p by McNemar's "
            "exact test; then images that both get right, A alone, B alone, and neither. In the line of all "
            "attacks p and the interval are of photographs, since attacks on one are not independent. No p "
            "is corrected for their number.",
        ),
        table="\n\n".join([*blocks, *picture]),
        rows=[row.record() for comparison in comparisons for row in comparison.rows],
        conditions=conditions,
        further={
            "differing": [
                _differing(comparison, pair, classes)
                for comparison in comparisons
                for pair in comparison.differing
            ]
        },
    )


def terminal_comparison(comparison: Comparison, width: int) -> str:
    """The table of each target for a terminal of so many columns, and how often the two differ."""
    tables = [fitted_table(*_grid(comparison, target), width) for target in _targets(comparison)]
    return "\n\n".join([_legend(comparison), *tables, _summary(comparison)])


def _blocks(comparison: Comparison, classes: Sequence[str]) -> list[str]:
    """The tables of a comparison, and the first images of either kind."""
    tables = [markdown_table(*_grid(comparison, target)) for target in _targets(comparison)]
    lists = [_listed(comparison, classes, first_right=right) for right in (True, False)]
    return [_legend(comparison), *tables, _summary(comparison), *filter(None, lists)]


def _legend(comparison: Comparison) -> str:
    """Who is who: names of checkpoints are long."""
    return f"A: {comparison.first}. B: {comparison.second}."


def _summary(comparison: Comparison) -> str:
    """How often they differ, and whose images had no counterpart."""
    first = sum(pair[0].right for pair in comparison.differing)
    second = len(comparison.differing) - first
    text = f"A alone is right {first} times, B alone {second} times"
    text += f"; {KIND}-differing.csv names the images." if comparison.differing else "."
    if comparison.unpaired:
        text += f" {comparison.unpaired} answers have no counterpart on the same pixels and are left out."
    return text


def _listed(comparison: Comparison, classes: Sequence[str], *, first_right: bool) -> str:
    """The first images of one kind; "" where there is none."""
    pairs = [pair for pair in comparison.differing if pair[0].right == first_right]
    right, wrong = "AB" if first_right else "BA"
    listed = [pair for _, of_attack in groupby(pairs, _cell) for pair in islice(of_attack, LISTED)]
    lines = [
        f"- {pair[0].attack}: {stem_of(pair[0].key)} ({class_name(pair[0].label, classes)}), behind {wrong} "
        f"taken for {class_name(pair[int(first_right)].predicted, classes)}"
        for pair in listed
    ]
    if len(pairs) > len(listed):
        lines.append(f"- and {len(pairs) - len(listed)} more")
    return "\n".join([f"{right} alone is right:\n", *lines]) if lines else ""


def _cell(pair: AnswerPair) -> tuple[str, str]:
    """Target and attack of two answers."""
    return pair[0].target, pair[0].attack


def _targets(comparison: Comparison) -> list[str]:
    """The targets in the order of the rows."""
    return list(dict.fromkeys(row.target for row in comparison.rows))


def _grid(comparison: Comparison, target: str) -> Grid:
    """A target's table."""
    header = [target, "n", "A", "B", "B - A", "p", "both", "only A", "only B", "neither"]
    return header, [_cells(row) for row in comparison.rows if row.target == target]


def _cells(row: PairedRow) -> list[str]:
    """A line of the table."""
    return [
        row.attack,
        str(row.n),
        percent((row.both + row.only_first) / row.n),
        percent((row.both + row.only_second) / row.n),
        f"{100 * row.difference:+.1f} [{100 * row.low:+.1f}, {100 * row.high:+.1f}]",
        p_text(row.p),
        *map(str, (row.both, row.only_first, row.only_second, row.neither)),
    ]


def _differing(comparison: Comparison, pair: AnswerPair, classes: Sequence[str]) -> dict[str, Any]:
    """An image of which one alone is right, as files hold it."""
    one, other = pair
    return {
        "target": one.target,
        "attack": one.attack,
        "key": one.key,
        "image": one.image,
        "label": one.label,
        "class": class_name(one.label, classes),
        "first": comparison.first,
        "second": comparison.second,
        "right": comparison.first if one.right else comparison.second,
        "first_predicted": one.predicted,
        "second_predicted": other.predicted,
        "first_class": class_name(one.predicted, classes),
        "second_class": class_name(other.predicted, classes),
    }
