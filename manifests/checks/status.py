"""How much of a collection is there: shards, images, success rates and bytes by target, attack and split."""

from typing import TypedDict

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.marker import Counts, add_counts, percent_fooled


class GroupStatus(Counts):
    """The counts of all shards of an attack on a target's split."""

    target: str
    attack: str
    split: str
    shards: int
    missing_shards: int
    bytes: int


class CollectionStatus(TypedDict):
    """A collection's groups, and the shards that its plans ask for and that are not committed."""

    root: str
    groups: list[GroupStatus]
    missing: list[str]


def status(collection: Collection) -> CollectionStatus:
    """Sum up a collection by target, attack and split.

    Raises:
        InputError: A marker or a plan cannot be read.
    """
    missing = collection.missing()
    groups: dict[tuple[str, str, str], list[CommittedShard]] = {}
    for shard in collection.committed:
        shard_id = shard.shard_id
        groups.setdefault((shard_id.target, shard_id.attack, shard_id.split), []).append(shard)
    lacking = [(shard_id.target, shard_id.attack, shard_id.split) for shard_id in missing]
    rows: list[GroupStatus] = [
        {
            "target": target,
            "attack": attack,
            "split": split,
            "shards": len(shards),
            "missing_shards": lacking.count((target, attack, split)),
            "bytes": sum(shard.marker["tar"]["bytes"] for shard in shards),
            **add_counts(shard.marker["counts"] for shard in shards),
        }
        for (target, attack, split), shards in groups.items()
    ]
    return {"root": str(collection.root), "groups": rows, "missing": [str(shard_id) for shard_id in missing]}


def status_table(summary: CollectionStatus) -> str:
    """`status` for people."""
    header = ["target/attack/split", "shards", "missing", "stored", "failed", "fooled %", "MiB"]
    cells = [
        [
            f"{row['target']}/{row['attack']}/{row['split']}",
            row["shards"],
            row["missing_shards"],
            row["stored"],
            row["failed"],
            percent_fooled(row),
            f"{row['bytes'] / 2**20:.1f}",
        ]
        for row in summary["groups"]
    ]
    lines = [markdown_table(header, cells)]
    if summary["missing"]:
        count = len(summary["missing"])
        lines.append(f"{count} planned shards are not there yet; the same generate command continues.")
    return "\n".join(lines)
