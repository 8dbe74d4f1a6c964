"""How much of a collection is there: shards, images, success rates and bytes by target, attack and split."""

from typing import TypedDict

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.marker import Counts, add_counts, percent_fooled
from impure.manifests.collection.schema import STATUS_OK


class GroupStatus(Counts):
    """The counts of all shards of an attack on a target's split."""

    target: str
    attack: str
    split: str
    shards: int
    missing_shards: int
    bytes: int


class PlanStatus(TypedDict):
    """What a frozen plan lists."""

    target: str
    split: str
    images: int
    shards: int


class CollectionStatus(TypedDict):
    """A collection's plans and groups, and the shards of begun attacks that are not committed."""

    root: str
    plans: list[PlanStatus]
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
    plans: list[PlanStatus] = [
        {
            "target": plan.target,
            "split": plan.split,
            "images": plan.table["status"].to_pylist().count(STATUS_OK),
            "shards": len(plan.shards),
        }
        for plan in collection.plans().values()
    ]
    missing_names = [str(shard_id) for shard_id in missing]
    return {"root": str(collection.root), "plans": plans, "groups": rows, "missing": missing_names}


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
    lines = [markdown_table(header, cells)] if cells else []
    begun = {(row["target"], row["split"]) for row in summary["groups"]}
    lines += [
        f"{plan['target']}/{plan['split']}: {plan['images']} images are sampled for {plan['shards']} shards, "
        "and no attack is made yet; impure-data generate makes some."
        for plan in summary["plans"]
        if (plan["target"], plan["split"]) not in begun
    ]
    if summary["missing"]:
        count = len(summary["missing"])
        lines.append(f"{count} planned shards are not there yet; the same generate command continues.")
    return "\n".join(lines)
