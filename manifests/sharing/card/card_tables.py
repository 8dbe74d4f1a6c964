"""The Markdown tables of a collection's card: targets, images, attacks, software, success rates."""

from collections.abc import Sequence

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.marker import Counts, add_counts, percent_fooled
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
    return _table(header, [_target_row(shard) for shard in shards])


def _target_row(shard: CommittedShard) -> list[object]:
    target = shard.marker["config"]["target"]
    return [
        shard.shard_id.target,
        target.get("architecture", ""),
        target["num_classes"],
        target.get("crop", ""),
        f"`{target['weights']}`",
    ]


def images_table(plans: dict[str, FrozenPlan]) -> str:
    """What was sampled."""
    header = ["target", "split", "source", "drawn from", "per class", "seed", "sampled", "unreadable"]
    ordered = sorted(plans.values(), key=lambda plan: (plan.target, SPLITS.index(plan.split)))
    return _table(header, [_plan_row(plan) for plan in ordered])


def _plan_row(plan: FrozenPlan) -> list[object]:
    config = [plan.config.get(name, "") for name in ("source", "split", "per_class", "seed")]
    status = plan.table["status"].to_pylist()
    sampled = status.count(STATUS_OK)
    return [plan.target, plan.split, *config, sampled, len(status) - sampled]


def attacks_table(shards: Sequence[CommittedShard]) -> str:
    """What was done to the images, with all parameters."""
    header = ["attack", "method", "ε", "preset", "by", "seed", "parameters"]
    return _table(header, [_attack_row(shard) for shard in shards])


def _attack_row(shard: CommittedShard) -> list[object]:
    config = shard.marker["config"]
    attack = dict(config.get("attack", {}))
    method = [attack.pop(name, "") for name in ("name", "eps_255", "preset", "implementation")]
    settings = {**attack.pop("params", {}), **attack}
    used = {name: value for name, value in settings.items() if value not in (None, [])}
    parameters = f"`{canonical_json(used)}`" if used else ""
    return [shard.shard_id.attack, *method, config.get("seed", ""), parameters]


def software_table(shards: Sequence[CommittedShard]) -> str:
    """Versions and devices of everything that made pixels."""
    versions: dict[str, set[str]] = {}
    for shard in shards:
        facts = {**shard.marker.get("software", {}), "device": shard.marker.get("device", "?")}
        for name, version in facts.items():
            versions.setdefault(name, set()).add(str(version))
    rows = [[name, ", ".join(sorted(versions[name]))] for name in sorted(versions)]
    return _table(["software", "version"], rows)


def rates_table(shards: Sequence[CommittedShard]) -> str:
    """Counts and success rates by target, attack and split."""
    groups: dict[tuple[str, str, str], list[Counts]] = {}
    for shard in shards:
        group = (shard.shard_id.target, shard.shard_id.attack, shard.shard_id.split)
        groups.setdefault(group, []).append(shard.marker["counts"])
    rows = []
    for group, counts in groups.items():
        total = add_counts(counts)
        sums = [total["stored"], total["failed"], total["succeeded"]]
        rows.append([*group, len(counts), *sums, percent_fooled(total)])
    return _table(["target", "attack", "split", "shards", "stored", "failed", "fooled", "fooled %"], rows)
