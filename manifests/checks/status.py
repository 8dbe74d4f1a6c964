"""How much of a collection is there: shards, images, success rates and bytes by target, attack and split."""

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.marker import Counts, add_counts, percent_fooled
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.schema import STATUS_OK
from impure.manifests.collection.shard_id import ShardId


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
    return {
        "root": str(collection.root),
        "plans": [_plan_status(plan) for plan in collection.plans().values()],
        "groups": _group_statuses(collection.committed, missing),
        "missing": [str(shard_id) for shard_id in missing],
    }


def _plan_status(plan: FrozenPlan) -> PlanStatus:
    """What one frozen plan lists."""
    return {
        "target": plan.target,
        "split": plan.split,
        "images": plan.table["status"].to_pylist().count(STATUS_OK),
        "shards": len(plan.shards),
    }


def _group_statuses(committed: Sequence[CommittedShard], missing: Sequence[ShardId]) -> list[GroupStatus]:
    """The sums of each target, attack and split."""
    groups: dict[tuple[str, str, str], list[CommittedShard]] = {}
    for shard in committed:
        groups.setdefault(_group_of(shard.shard_id), []).append(shard)
    lacking = Counter(map(_group_of, missing))
    return [
        {
            "target": target,
            "attack": attack,
            "split": split,
            "shards": len(shards),
            "missing_shards": lacking[target, attack, split],
            "bytes": sum(shard.marker["tar"]["bytes"] for shard in shards),
            **add_counts(shard.marker["counts"] for shard in shards),
        }
        for (target, attack, split), shards in groups.items()
    ]


def _group_of(shard_id: ShardId) -> tuple[str, str, str]:
    return shard_id.target, shard_id.attack, shard_id.split


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
