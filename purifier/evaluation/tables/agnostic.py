"""Table 3: purifiers trained on some attacks, before all of them (paper, Table 3)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from impure.manifests.base.errors import InputError
from impure.manifests.base.tables import fitted_table, markdown_table
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.evaluate_config import RESIZED
from impure.purifier.evaluation.kind_files import Measured
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.class_scores import class_tables
from impure.purifier.evaluation.reports.report_table import remarks, targets_of
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.tables.defence_rows import Grid, lines_of, numbers_of_images, percent
from impure.purifier.evaluation.tables.trained_on import BLACK_BOX, TRANSFER, TrainedOn

KIND = "table3"
SEEN = "*"  # behind an attack that was seen in training

Attacks = frozenset[str]


def table3(
    evaluation: Evaluation, trained: Mapping[str, TrainedOn], images: str, classes: Sequence[str] = ()
) -> Measured:
    """The table with all that a report holds.

    Args:
        evaluation: What was measured.
        trained: What the checkpoints were trained on, by defence; at least one. Other defences were not.
        images: On which images, in words.
        classes: Class names in label order; numbers without.
    """
    grids = _grids(evaluation, trained)
    return Measured(
        kind=KIND,
        title="Table 3: attacks seen in training, and others",
        notes=(
            f"Top-1 accuracy in %, on {images}; Wilson's 95 % intervals are in {KIND}.csv. An attack with "
            f"{SEEN} was seen in training: the others are agnostic. The means are over the attacks of either "
            f"kind, without clean. {numbers_of_images(evaluation.rows)}",
            *notes(evaluation, trained),
        ),
        table="\n\n".join(markdown_table(*grid) for grid in grids),
        rows=[_record(row, trained) for row in evaluation.rows],
        conditions={
            "images": images,
            **evaluation.conditions,
            "threat_model": "that of each row; all are black-box towards the defence",
            "trained_on": [f"{name}: {seen.describe()}" for name, seen in trained.items()],
        },
        further={
            "means": _means(evaluation, trained),
            **class_tables(evaluation.predictions, classes),
        },
    )


def terminal_table3(evaluation: Evaluation, trained: Mapping[str, TrainedOn], width: int) -> str:
    """The same for a terminal of so many columns."""
    return "\n\n".join(fitted_table(*grid, width) for grid in _grids(evaluation, trained))


def notes(evaluation: Evaluation, trained: Mapping[str, TrainedOn]) -> list[str]:
    """What has to stand beside the table: what each checkpoint saw, and what that makes of the rows."""
    lines = [f"{name} was trained on {_described(seen)}." for name, seen in trained.items()]
    for target in targets_of(evaluation):
        moved = [name for name, seen in trained.items() if seen.is_transfer(target)]
        if moved:
            lines.append(
                f"{target} is none of the targets that {', '.join(moved)} learnt from: "
                f"threat model {TRANSFER}."
            )
    attacks = {row.attack for row in evaluation.rows} - {CLEAN}
    if all(attacks <= seen.attacks for seen in trained.values()):
        lines.append("Every attack was seen in training: nothing here is agnostic.")
    return [*lines, *remarks(evaluation)]


def _described(seen: TrainedOn) -> str:
    """What a checkpoint saw, and what it may have seen besides."""
    further = f"; what {seen.began_with}, which it began with, had seen is not known"
    return seen.describe() + (further if seen.began_with else "")


def check_trained(networks: Sequence[str], trained: Mapping[str, TrainedOn]) -> None:
    """Refuse defences of which nobody can tell seen from unseen.

    Args:
        networks: The defences with a trained network.
        trained: What is known of them.

    Raises:
        InputError: Nothing is trained, or it is not known on what.
    """
    if unknown := [name for name in networks if name not in trained]:
        raise InputError(f"table3 must know what {unknown[0]} was trained on: give it by --checkpoint RUN")
    if not trained:
        raise InputError(
            "table3 is of purifiers trained on some attacks alone: give --checkpoint RUN of "
            "`impure-train --attacks fgsm,pgd,mifgsm`"
        )


def _seen_by(row: Row, trained: Mapping[str, TrainedOn]) -> TrainedOn | None:
    """What a row's defence was trained on; None where it was not trained."""
    return trained.get(row.defence.removesuffix(RESIZED))


def _record(row: Row, trained: Mapping[str, TrainedOn]) -> dict[str, Any]:
    """A row as files hold it; of clean images, and of defences without training, `seen` says nothing."""
    trained_on = _seen_by(row, trained)
    if row.attack == CLEAN:
        return {**row.record(), "seen": None, "threat_model": None}
    if trained_on is None:
        return {**row.record(), "seen": None, "threat_model": BLACK_BOX}
    seen = row.attack in trained_on.attacks
    return {**row.record(), "seen": seen, "threat_model": trained_on.threat_model(row.target, row.attack)}


def _attack_sets(trained: Mapping[str, TrainedOn]) -> list[Attacks]:
    """The different sets of attacks that checkpoints were trained on; one table for each."""
    return list(dict.fromkeys(seen.attacks for seen in trained.values()))


def _grids(evaluation: Evaluation, trained: Mapping[str, TrainedOn]) -> list[Grid]:
    """The tables: for each target, one for each set of attacks seen, with the untrained defences in each."""
    return [
        _grid(evaluation, trained, target, attacks)
        for target in targets_of(evaluation)
        for attacks in _attack_sets(trained)
    ]


def _grid(evaluation: Evaluation, trained: Mapping[str, TrainedOn], target: str, seen: Attacks) -> Grid:
    """One table."""
    lines = _lines(evaluation, trained, target, seen)
    header = [row.attack + SEEN * (row.attack in seen) for row in next(iter(lines.values()))]
    return [target, *header, f"mean of seen{SEEN}", "mean of unseen"], [
        [label, *(percent(row.accuracy) for row in rows), *map(percent, _mean_of_kinds(rows, seen))]
        for label, rows in lines.items()
    ]


def _lines(
    evaluation: Evaluation, trained: Mapping[str, TrainedOn], target: str, attacks: Attacks
) -> dict[str, list[Row]]:
    """A target's rows of the untrained defences and of those that were trained on these attacks."""
    lines = {}
    for label, rows in lines_of(evaluation, target).items():
        seen = _seen_by(rows[0], trained)
        if seen is None or seen.attacks == attacks:
            lines[label] = rows
    return lines


def _mean_of_kinds(rows: Sequence[Row], seen: Attacks) -> tuple[float | None, float | None]:
    """Mean accuracy over seen and over unseen attacks; None where there are none."""
    attacked = [row for row in rows if row.attack != CLEAN]
    return (
        _mean([row.accuracy for row in attacked if row.attack in seen]),
        _mean([row.accuracy for row in attacked if row.attack not in seen]),
    )


def _mean(accuracies: Sequence[float]) -> float | None:
    """The unweighted mean, without digits that say nothing."""
    return round(math.fsum(accuracies) / len(accuracies), 6) if accuracies else None


def _means(evaluation: Evaluation, trained: Mapping[str, TrainedOn]) -> list[dict[str, Any]]:
    """The means of each line of each table."""
    records = []
    for target in targets_of(evaluation):
        for attacks in _attack_sets(trained):
            for rows in _lines(evaluation, trained, target, attacks).values():
                seen, unseen = _mean_of_kinds(rows, attacks)
                records.append(
                    {
                        "target": target,
                        "defence": rows[0].defence,
                        "combine": rows[0].combine,
                        "samples": rows[0].samples,
                        "seen_attacks": " ".join(sorted(attacks)),
                        "mean_seen": seen,
                        "mean_unseen": unseen,
                    }
                )
    return records
