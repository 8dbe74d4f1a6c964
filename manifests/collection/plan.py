"""The frozen plan of a target and split: which images go to which shard, read and checked in one place."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import pyarrow as pa
import pyarrow.compute as pc

from impure.manifests.base.canonical_json import differing_fields, digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.parquet import read_table
from impure.manifests.collection.layout import is_plan
from impure.manifests.collection.schema import PLAN, STATUS_OK, UNREADABLE, Row

_REASON = "error"  # the column that says why an image could not be read
_COUNTS = ("asked", "batch_size", "misclassified", "threads")  # what every plan's config says
_ALL_COUNTS = (*_COUNTS, "per_class")


class PlanTarget(TypedDict):
    """The target that a plan was drawn for; its card's other fields stand there too."""

    name: str


class PlanConfig(TypedDict):
    """What a plan was drawn with; what is not required is recorded and compared, but nothing relies on it."""

    source: str
    target: PlanTarget
    asked: int
    misclassified: int
    batch_size: int
    threads: int
    memory_formats: NotRequired[dict[str, str]]
    per_class: NotRequired[int]
    validation_per_class: NotRequired[int]
    shard_size: NotRequired[int]
    seed: NotRequired[int]
    split: NotRequired[str]
    schema_version: NotRequired[int]


@dataclass(frozen=True, kw_only=True)
class FrozenPlan:
    """A plan on disk that is what its file name says.

    Attributes:
        path: Its file.
        target: Name of the target it was drawn for.
        split: Which split of the collection it fills.
        shards: Numbers of its shards, ascending.
        config: What it was drawn with.
        table: Its rows.
    """

    path: Path
    target: str
    split: str
    shards: tuple[int, ...]
    config: PlanConfig
    table: pa.Table

    @property
    def name(self) -> str:
        """File name without its ending."""
        return self.path.stem

    @cached_property
    def digest(self) -> str:
        """Of config and rows (see `plan_digest`); markers carry it."""
        return plan_digest(self.table, self.config)

    def rows_of(self, number: int) -> list[Row]:
        """The rows of the shard of this number, in order."""
        rows: list[Row] = self.table.filter(pc.field("shard") == number).to_pylist()
        return rows

    def counts(self) -> dict[str, int]:
        """Images asked for, sampled, and passed over when it was drawn."""
        status = Counter(self.table["status"].to_pylist())
        return {
            "asked": self.config["asked"],
            "sampled": status[STATUS_OK],
            "misclassified": self.config["misclassified"],
            "unreadable": status[UNREADABLE],
            "short": self.config["asked"] - status[STATUS_OK],
        }


def plan_digest(table: pa.Table, config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of what a plan chooses: two plans with one digest list the same images.

    Left out is what may differ between machines that choose the same: why an image could not be read, and
    the source's name, which is that of its folder.
    """
    return digest({"config": _chosen(config), "rows": table.drop_columns(_REASON).to_pylist()})


def _chosen(config: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's config without the source's name."""
    return {name: value for name, value in config.items() if name != "source"}


def read_plan(path: Path) -> FrozenPlan:
    """Read a plan and check that it is the one that its file name promises.

    Raises:
        InputError: It cannot be read, or is another target's or split's.
    """
    table, config = read_table(path, PLAN)
    target = config.get("target")
    name = target.get("name") if isinstance(target, dict) else None
    split = path.stem.rpartition("-")[2]
    pairs = {(row["target"], row["split"]) for row in _distinct(table, "target", "split")}
    if path.stem != f"{name}-{split}" or not is_plan(f"plans/{path.name}") or pairs - {(name, split)}:
        raise InputError(f"{path}: the plan of another target or split; restore the file, or sample again")
    shards = pc.unique(table["shard"]).to_pylist()
    if None in shards or not isinstance(config.get("source"), str) or not set(_COUNTS) <= set(config):
        raise InputError(f"{path}: not a complete plan; restore the file, or sample again")
    if pc.all(pc.is_finite(table["conf_clean"])).as_py() is False:
        raise InputError(f"{path}: holds numbers that no plan has (a confidence that is not finite)")
    if wrong := [name for name in _ALL_COUNTS if not _is_count(config.get(name, 0))]:
        raise InputError(f"{path}: holds numbers that no plan has ({', '.join(wrong)})")
    return FrozenPlan(
        path=path,
        target=str(name),
        split=split,
        shards=tuple(sorted(shards)),
        config=cast(PlanConfig, config),
        table=table,
    )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def read_plans(paths: Iterable[Path]) -> tuple[dict[str, FrozenPlan | None], list[str]]:
    """Read plans of which some may be broken.

    Returns:
        The plans by file name without its ending, None for one that is broken; and what is wrong with those.
    """
    plans: dict[str, FrozenPlan | None] = {}
    problems = []
    for path in paths:
        try:
            plans[path.stem] = read_plan(path)
        except InputError as error:
            plans[path.stem] = None
            problems.append(str(error))
    return plans, problems


def plan_differences(ours: FrozenPlan, theirs: FrozenPlan) -> list[str]:
    """Name the config fields and columns in which two plans differ; nothing where they are the same."""
    if ours.digest == theirs.digest:
        return []
    columns = [
        name
        for name in PLAN.names
        if name != _REASON
        and not ours.table[name].combine_chunks().equals(theirs.table[name].combine_chunks())
    ]
    return [
        *differing_fields(_chosen(ours.config), _chosen(theirs.config)),
        *(f"the rows' {name}" for name in columns),
    ]


def _distinct(table: pa.Table, *columns: str) -> list[dict[str, Any]]:
    """The distinct combinations of some columns."""
    rows: list[dict[str, Any]] = table.group_by(list(columns)).aggregate([]).to_pylist()
    return rows
