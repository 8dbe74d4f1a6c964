"""How a plan is drawn: its config, the reproducible shuffle, and the mix of all classes cut into shards."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from impure.manifests.base.errors import InputError
from impure.manifests.collection.schema import PLAN, STATUS_OK, Row
from impure.manifests.collection.shard_id import sample_stem


def shuffled(seed: int, source_id: str) -> str:
    """A reproducible shuffle: images sort by this."""
    return hashlib.sha256(f"{seed}:{source_id}".encode()).hexdigest()


def mix_into_shards(split: str, rows: Sequence[Row], config: Mapping[str, Any]) -> pa.Table:
    """Mix the rows of all classes by the seed and cut them into shards: the table of a plan.

    Raises:
        InputError: Two images have one name.
    """
    stems = Counter(sample_stem(row["source_id"]) for row in rows)
    if doubled := [row["source_id"] for row in rows if stems[sample_stem(row["source_id"])] > 1]:
        raise InputError(f"{' and '.join(doubled[:2])}: two images of one name; remove or rename one of them")
    mixed = sorted(rows, key=lambda row: shuffled(config["seed"], row["source_id"]))
    numbered = list(_numbered(mixed, split, config["target"]["name"], config["shard_size"]))
    return pa.Table.from_pylist(numbered, schema=PLAN)


def _numbered(rows: Sequence[Row], split: str, target: str, shard_size: int) -> Iterator[Row]:
    """Give each row its shard; an unreadable image stands in the shard it would have been part of."""
    stored, last = 0, sum(row["status"] == STATUS_OK for row in rows) - 1
    for row in rows:
        yield {**row, "shard": max(min(stored, last), 0) // shard_size, "split": split, "target": target}
        stored += row["status"] == STATUS_OK
