"""Judging shards: the targets that they were made on, and what to call classes and images in reports."""

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
    """Build every target that the shards were made on.

    Args:
        shards: The shards.
        cards: Targets (see `load_target`) whose names in the shards are no keys of `TARGETS`.
        weights: Weights file of the target, where they cannot be downloaded.

    Raises:
        InputError: A target is not given, or its weights are not those that the shards were made with.
    """
    given = {target.card.name: target for target in (load_target(card, weights) for card in cards)}
    for name in sorted({each.shard_id.target for each in shards} - set(given)):
        if name not in TARGETS:
            raise InputError(
                f"the shards were made on target {name!r}; give it with --target card.json or timm:NAME"
            )
        given[name] = load_target(name, weights)
    for target in given.values():
        _check_weights(target, shards)
    return dict(given)


def _check_weights(target: Target, shards: Sequence[CommittedShard]) -> None:
    """Refuse to judge shards with another network than they were made on."""
    for each in shards:
        made_on = each.marker["config"]["target"]["weights"]
        if each.shard_id.target == target.card.name and made_on != target.weights_sha256:
            raise InputError(
                f"{each.tar}: made on {target.card.name!r} with other weights "
                f"({made_on[:12]}, here {target.weights_sha256[:12]}); give the same by --target or --weights"
            )


def class_names(shards: Sequence[CommittedShard]) -> tuple[str, ...]:
    """Names of the classes of the shards' targets, in label order, where all share one label space."""
    spaces = {tuple(each.marker["config"]["target"]["wnids"]) for each in shards}
    if len(spaces) != 1:
        return ()
    info, (wnids,) = ImageNetInfo(), spaces
    known = set(info.label_names())
    return tuple(
        info.label_name_to_description(wnid).split(",")[0] if wnid in known else wnid for wnid in wnids
    )


def describe_images(shards: Sequence[CommittedShard]) -> str:
    """Which images a figure was measured on: source, number of classes, split."""
    plans = {(each.root, each.shard_id.target, each.shard_id.split): each for each in shards}
    ways = sorted({each.marker["config"]["target"]["num_classes"] for each in shards})
    sources = sorted({source for each in plans.values() for source in each.sources()})
    splits = sorted({each.shard_id.split for each in shards})
    return f"{', '.join(sources)}, {'/'.join(map(str, ways))}-way, {', '.join(splits)}"
