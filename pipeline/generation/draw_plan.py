"""Plans: which images go to which shard, in which order, frozen before anything is attacked."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from impure.manifests.base.canonical_json import differing_fields
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path
from impure.manifests.base.parquet import read_table, write_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.plan import plan_digest
from impure.manifests.collection.sample_key import sample_stem
from impure.manifests.collection.schema import PLAN, STATUS_OK, UNREADABLE, Row


@dataclass(frozen=True)
class Plan:
    """A frozen plan: its rows and the config it was drawn with."""

    split: str
    table: pa.Table
    config: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """Of the config and the rows: two plans with one digest list the same images."""
        return plan_digest(self.table, self.config)

    def counts(self) -> dict[str, int]:
        """Images asked for, sampled, and passed over."""
        status = Counter(self.table["status"].to_pylist())
        return {
            "asked": self.config["asked"],
            "sampled": status[STATUS_OK],
            "misclassified": self.config["misclassified"],
            "unreadable": status[UNREADABLE],
            "short": self.config["asked"] - status[STATUS_OK],
        }


def read_plan(collection: Collection, target: str, split: str) -> Plan | None:
    """Read a frozen plan; None where there is none."""
    path = collection.plan_path(target, split)
    if not path.exists():
        return None
    table, config = read_table(path, PLAN)
    return Plan(split, table, config)


def begun_with(collection: Collection, target: str = "") -> dict[str, Any] | None:
    """The config of any frozen plan, of one target or of all; None where there is none."""
    for path in sorted((collection.root / "plans").glob(f"{target or '*'}-*.parquet")):
        config = read_table(path, PLAN)[1]
        if not target or config["target"]["name"] == target:
            return config
    return None


def read_same_plan(
    collection: Collection, target: str, split: str, identity: Mapping[str, Any]
) -> Plan | None:
    """Read the plan on disk; None where there is none.

    Raises:
        InputError: It was drawn with another config; the message names the fields.
    """
    plan = read_plan(collection, target, split)
    if plan is not None and (
        differing := differing_fields(identity, {key: plan.config.get(key) for key in identity})
    ):
        path = collection.plan_path(target, split)
        raise InputError(f"{path}: drawn with another config: {'; '.join(differing)}; choose another --out")
    return plan


def write_plan(collection: Collection, plan: Plan) -> None:
    """Freeze a plan."""
    with atomic_path(collection.plan_path(plan.config["target"]["name"], plan.split)) as path:
        write_table(path, plan.table, plan.config)


def shuffled(seed: int, source_id: str) -> str:
    """A reproducible shuffle: images sort by this."""
    return hashlib.sha256(f"{seed}:{source_id}".encode()).hexdigest()


def make_plan(split: str, rows: Sequence[Row], config: Mapping[str, Any]) -> Plan:
    """Mix the rows of all classes by the seed and cut them into shards."""
    stems = Counter(sample_stem(row["source_id"]) for row in rows)
    if doubled := [row["source_id"] for row in rows if stems[sample_stem(row["source_id"])] > 1]:
        raise InputError(f"{' and '.join(doubled[:2])}: two images of one name; remove or rename one of them")
    mixed = sorted(rows, key=lambda row: shuffled(config["seed"], row["source_id"]))
    numbered = list(_numbered(mixed, split, config["target"]["name"], config["shard_size"]))
    return Plan(split, pa.Table.from_pylist(numbered, schema=PLAN), dict(config))


def _numbered(rows: Sequence[Row], split: str, target: str, shard_size: int) -> Iterator[Row]:
    """Give each row its shard; an unreadable image stands in the shard it would have been part of."""
    stored, last = 0, sum(row["status"] == STATUS_OK for row in rows) - 1
    for row in rows:
        yield {**row, "shard": max(min(stored, last), 0) // shard_size, "split": split, "target": target}
        stored += row["status"] == STATUS_OK
