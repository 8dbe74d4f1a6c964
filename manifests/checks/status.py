"""How much of a collection is there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.schema import STATUS_OK, UNREADABLE


def status(collection: Collection) -> dict[str, Any]:
    """Sum up a collection by target, attack and split.

    Returns:
        `groups`, one for each target, attack and split with its counts and bytes, and `missing`, the shards
        that the plans ask for and that are not committed.
    """
    missing = collection.missing()
    groups: dict[tuple[str, str, str], list[CommittedShard]] = {}
    for each in collection.committed:
        groups.setdefault((each.shard_id.target, each.shard_id.attack, each.shard_id.split), []).append(each)
    rows = [
        {
            **dict(zip(("target", "attack", "split"), group, strict=True)),
            "shards": len(shards),
            "missing_units": sum(
                (shard_id.target, shard_id.attack, shard_id.split) == group for shard_id in missing
            ),
            "bytes": sum(each.marker["tar"]["bytes"] for each in shards),
            **add_up([each.marker["counts"] for each in shards]),
        }
        for group, shards in groups.items()
    ]
    return {"root": str(collection.root), "groups": rows, "missing": [str(shard_id) for shard_id in missing]}


def count(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Images planned, stored, skipped when the plan was drawn, failed since, and attacks that succeeded."""
    status = Counter(row["status"] for row in rows)
    planned = len(rows) - status[UNREADABLE]
    return {
        "planned": planned,
        "stored": status[STATUS_OK],
        "unreadable": status[UNREADABLE],
        "failed": planned - status[STATUS_OK],
        "succeeded": sum(bool(row["success"]) for row in rows if row["status"] == STATUS_OK),
    }


def add_up(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    """Counts of several shards, summed name by name."""
    return {name: sum(each.get(name, 0) for each in counts) for name in counts[0]} if counts else {}


def percent(counts: dict[str, Any]) -> str:
    """Share of the stored images on which the target was fooled."""
    return f"{100 * counts['succeeded'] / counts['stored']:.1f}" if counts["stored"] else "-"


def status_table(found: dict[str, Any]) -> str:
    """`status` for people."""
    header = ["target/attack/split", "shards", "missing", "stored", "failed", "fooled %", "MiB"]
    cells = [
        [
            f"{row['target']}/{row['attack']}/{row['split']}",
            *(row[name] for name in ("shards", "missing_units", "stored", "failed")),
            percent(row),
            f"{row['bytes'] / 2**20:.1f}",
        ]
        for row in found["groups"]
    ]
    lines = [markdown_table(header, cells)]
    if found["missing"]:
        lines.append(
            f"{len(found['missing'])} planned shards are not there yet; the same generate command continues."
        )
    return "\n".join(lines)
