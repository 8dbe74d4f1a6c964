"""Frozen plans as everybody sees them: who is asked for what, and whether two are the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from impure.manifests.base.canonical_json import differing_fields, digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.parquet import read_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.layout import is_plan
from impure.manifests.collection.schema import PLAN


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenPlan:
    """A plan on disk that is what its file name says.

    Attributes:
        path: Its file.
        target: Name of the target it was drawn for.
        split: Which split of the collection it fills.
        digest: Of config and rows (see `plan_digest`); markers carry it.
        shards: Numbers of its shards, ascending.
        config: What it was drawn with.
        table: Its rows.
    """

    path: Path
    target: str
    split: str
    digest: str
    shards: tuple[int, ...]
    config: dict[str, Any]
    table: pa.Table

    @property
    def name(self) -> str:
        """File name without its ending."""
        return self.path.stem

    def rows_of(self, shard: int) -> pa.Table:
        """The rows of one of its shards."""
        return self.table.filter(pc.field("shard") == shard)


def plan_digest(table: pa.Table, config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a plan's config and rows: two plans with one digest list the same images."""
    return digest({"config": config, "rows": table.to_pylist()})


def read_plan(path: Path) -> FrozenPlan:
    """Read a plan and check that it is the one that its file name promises.

    Raises:
        InputError: It cannot be read, or is another target's or split's.
    """
    table, config = read_table(path, PLAN)
    target = config.get("target")
    name = target.get("name") if isinstance(target, dict) else None
    split = path.stem.rpartition("-")[2]
    found = {(row["target"], row["split"]) for row in _distinct(table, "target", "split")}
    if path.stem != f"{name}-{split}" or not is_plan(f"plans/{path.name}") or found - {(name, split)}:
        raise InputError(f"{path}: the plan of another target or split; restore the file, or sample again")
    shards = pc.unique(table["shard"]).to_pylist()
    if None in shards or not isinstance(config.get("source"), str):
        raise InputError(f"{path}: not a complete plan; restore the file, or sample again")
    try:
        identity = plan_digest(table, config)
    except ValueError as error:
        raise InputError(f"{path}: holds numbers that no plan has ({error})") from error
    return FrozenPlan(
        path=path,
        target=str(name),
        split=split,
        digest=identity,
        shards=tuple(sorted(shards)),
        config=config,
        table=table,
    )


def read_plans(collection: Collection) -> tuple[dict[str, FrozenPlan | None], list[str]]:
    """Every plan of a collection.

    Returns:
        The plans by file name without its ending, None for one that is broken; and what is wrong with those.
    """
    plans: dict[str, FrozenPlan | None] = {}
    problems = []
    for path in sorted((collection.root / "plans").glob("*.parquet")):
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
        if not ours.table[name].combine_chunks().equals(theirs.table[name].combine_chunks())
    ]
    return [*differing_fields(ours.config, theirs.config), *(f"the rows' {name}" for name in columns)]


def _distinct(table: pa.Table, *columns: str) -> list[dict[str, Any]]:
    """The distinct combinations of some columns."""
    rows: list[dict[str, Any]] = table.group_by(list(columns)).aggregate([]).to_pylist()
    return rows
