"""Predictions of earlier reports, brought together to be compared."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from impure.manifests.base.errors import InputError
from impure.manifests.base.parquet import read_table
from impure.purifier.evaluation.image_predictions import CLASS_NAMES, FILE, SCHEMA

_CONDITIONS = ("date", "samples", "combine", "seed", "batch_size", "images_per_attack", "pixels_sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredBefore:
    """What some reports hold.

    Attributes:
        predictions: Of all, each defence by its own name: `riae`, or `riae@REPORT` where several have it.
        names: These names, each with the defence's name in its report.
        conditions: What has to be known to read them.
        classes: Class names in label order, where all reports have the same.
    """

    predictions: pa.Table
    names: Mapping[str, str]
    conditions: dict[str, Any]
    classes: tuple[str, ...]


def read_reports(reports: Sequence[Path]) -> MeasuredBefore:
    """Read the predictions of some reports.

    Args:
        reports: Folders or files, at least one, each once.

    Raises:
        InputError: One is named twice, holds no predictions or several, or cannot be read.
    """
    if again := [path for path, times in Counter(map(Path.resolve, reports)).items() if times > 1]:
        raise InputError(f"--from {again[0]} is named twice")
    read = {report: read_table(predictions_of(report), SCHEMA) for report in reports}
    holders = Counter(name for table, _ in read.values() for name in table["defence"].unique().to_pylist())
    names: dict[str, str] = {}
    tables = []
    for report, (table, _) in read.items():
        shown = {name: name if times == 1 else f"{name}@{report}" for name, times in holders.items()}
        present = table["defence"].to_pylist()
        names |= {shown[name]: name for name in present}
        renamed = pa.array([shown[name] for name in present], pa.string())
        tables.append(table.set_column(SCHEMA.get_field_index("defence"), "defence", renamed))
    classes = {_class_names(conditions) for _, conditions in read.values()}
    return MeasuredBefore(
        predictions=pa.concat_tables([table.replace_schema_metadata(None) for table in tables]),
        names=names,
        conditions={
            "reports": [
                f"{report}: {', '.join(f'{key} {conditions.get(key)}' for key in _CONDITIONS)}"
                for report, (_, conditions) in read.items()
            ]
        },
        classes=next(iter(classes)) if len(classes) == 1 else (),
    )


def _class_names(conditions: Mapping[str, Any]) -> tuple[str, ...]:
    """The class names that a report's metadata holds; none where it holds anything else."""
    names = conditions.get(CLASS_NAMES)
    return tuple(map(str, names)) if isinstance(names, list) else ()


def predictions_of(report: Path) -> Path:
    """The predictions of a report.

    Args:
        report: Its folder, or the file itself.

    Raises:
        InputError: There are none, or several.
    """
    if not report.is_dir():
        return report
    files = sorted(report.glob(f"*-{FILE}"))
    if not files:
        raise InputError(f"{report}: holds no *-{FILE}; measure again, by impure-eval table1 or table2")
    if len(files) > 1:
        raise InputError(f"{report}: holds {', '.join(file.name for file in files)}; name one of them")
    return files[0]


def choose(asked: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """The defences that are compared, in the order in which they are asked for.

    Args:
        asked: Names of `MeasuredBefore.names`, or names in the reports, each of which may stand for several.
        names: What there is.

    Raises:
        InputError: One is not there, or they are fewer than two.
    """
    chosen: list[str] = []
    for name in asked:
        matching = [name] if name in names else [own for own, plain in names.items() if plain == name]
        if not matching:
            raise InputError(f"compare: no {name!r} in the reports; they hold {', '.join(names)}")
        chosen += matching
    distinct = tuple(dict.fromkeys(chosen))
    if len(distinct) < 2:
        raise InputError(f"compare: name two at least of {', '.join(names)}")
    return distinct
