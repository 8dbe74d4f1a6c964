"""The classifiers that a collection's shards were made on, and the names of classes and images in reports."""

from collections.abc import Sequence
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_names import TARGETS


def classifiers_of(
    shards: Sequence[CommittedShard], cards: Sequence[str], weights: Path | None
) -> dict[str, Target]:
    """Build every classifier that the shards were made on.

    Args:
        shards: Committed shards.
        cards: Targets, as `load_target` takes them, that `TARGETS` does not know by the shards' names.
        weights: Weights file of the target, where they cannot be downloaded.

    Returns:
        Classifiers by their names in the shards.

    Raises:
        InputError: A target is not given, or its weights are not those that the shards were made with.
    """
    given = {target.card.name: target for target in (load_target(card, weights) for card in cards)}
    for name in sorted({shard.shard_id.target for shard in shards} - set(given)):
        if name not in TARGETS:
            raise InputError(
                f"the shards were made on target {name!r}; give it with --target card.json or timm:NAME"
            )
        given[name] = load_target(name, weights)
    for target in given.values():
        _check_weights(target, shards)
    return dict(given)


def _check_weights(target: Target, shards: Sequence[CommittedShard]) -> None:
    """Refuse to evaluate shards with another network than they were made on."""
    for shard in shards:
        made_on = shard.marker["config"]["target"]["weights"]
        if shard.shard_id.target == target.card.name and made_on != target.weights_sha256:
            raise InputError(
                f"{shard.tar}: made on {target.card.name!r} with other weights "
                f"({made_on[:12]}, here {target.weights_sha256[:12]}); give the same by --target or --weights"
            )


def class_names(shards: Sequence[CommittedShard]) -> tuple[str, ...]:
    """Names of the classes of the shards' targets, in label order, where all share one label space."""
    label_spaces = {tuple(shard.marker["config"]["target"]["wnids"]) for shard in shards}
    if len(label_spaces) != 1:
        return ()
    (wnids,) = label_spaces
    info = ImageNetInfo()
    known = set(info.label_names())
    return tuple(
        info.label_name_to_description(wnid).split(",")[0] if wnid in known else wnid for wnid in wnids
    )


def describe_images(shards: Sequence[CommittedShard]) -> str:
    """Which images a figure was measured on: source, number of classes, split."""
    one_of_each_plan = {(shard.root, shard.shard_id.target, shard.shard_id.split): shard for shard in shards}
    class_counts = sorted({shard.marker["config"]["target"]["num_classes"] for shard in shards})
    sources = sorted({source for shard in one_of_each_plan.values() for source in shard.sources()})
    splits = sorted({shard.shard_id.split for shard in shards})
    return f"{', '.join(sources)}, {'/'.join(map(str, class_counts))}-way, {', '.join(splits)}"
