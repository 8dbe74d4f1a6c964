"""The tables of a collection's card, in Markdown."""

from collections.abc import Sequence

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.tables import markdown_table
from impure.manifests.checks.status import add_up, percent
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.schema import STATUS_OK
from impure.manifests.collection.shard_id import SPLITS


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a Markdown table, each once, in order; what a stranger wrote cannot leave its cell."""
    cells = [
        tuple(str(cell).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in row)
        for row in rows
    ]
    return markdown_table(header, list(dict.fromkeys(cells)))


def targets_table(shards: Sequence[CommittedShard]) -> str:
    """Identity of the targets."""
    header = ["target", "architecture", "classes", "input", "weights"]
    rows = []
    for each in shards:
        target = each.marker["config"]["target"]
        rows.append(
            [each.shard_id.target, target.get("architecture", ""), target["num_classes"], target.get("crop", ""),
             f"`{target['weights']}`"]
        )  # fmt: skip
    return _table(header, rows)


def images_table(plans: dict[str, FrozenPlan]) -> str:
    """What was sampled."""
    header = ["target", "split", "source", "drawn from", "per class", "seed", "sampled", "unreadable"]
    rows = []
    for plan in sorted(plans.values(), key=lambda plan: (plan.target, SPLITS.index(plan.split))):
        status, config = plan.table["status"].to_pylist(), plan.config
        rows.append(
            [plan.target, plan.split,
             *(config.get(name, "") for name in ("source", "split", "per_class", "seed")),
             status.count(STATUS_OK), len(status) - status.count(STATUS_OK)]
        )  # fmt: skip
    return _table(header, rows)


def attacks_table(shards: Sequence[CommittedShard]) -> str:
    """What was done to the images, with all parameters."""
    header = ["attack", "method", "ε", "preset", "by", "seed", "parameters"]
    rows = []
    for each in shards:
        attack = dict(each.marker["config"].get("attack", {}))
        method = [attack.pop(name, "") for name in ("name", "eps_255", "preset", "implementation")]
        told = {**attack.pop("params", {}), **attack}
        set_ones = {name: value for name, value in told.items() if value not in (None, [])}
        parameters = f"`{canonical_json(set_ones)}`" if set_ones else ""
        rows.append([each.shard_id.attack, *method, each.marker["config"].get("seed", ""), parameters])
    return _table(header, rows)


def software_table(shards: Sequence[CommittedShard]) -> str:
    """Versions and devices of everything that made pixels."""
    versions: dict[str, set[str]] = {}
    for each in shards:
        facts = {**each.marker.get("software", {}), "device": each.marker.get("device", "?")}
        for name, version in facts.items():
            versions.setdefault(name, set()).add(str(version))
    rows = [[name, ", ".join(sorted(versions[name]))] for name in sorted(versions)]
    return _table(["software", "version"], rows)


def rates_table(shards: Sequence[CommittedShard]) -> str:
    """Counts and success rates by target, attack and split."""
    groups: dict[tuple[str, str, str], list[dict[str, int]]] = {}
    for each in shards:
        group = (each.shard_id.target, each.shard_id.attack, each.shard_id.split)
        groups.setdefault(group, []).append(each.marker["counts"])
    rows = []
    for group, counts in groups.items():
        total = add_up(counts)
        rows.append(
            [*group, len(counts), total["stored"], total["failed"], total["succeeded"], percent(total)]
        )
    return _table(["target", "attack", "split", "shards", "stored", "failed", "fooled", "fooled %"], rows)
