"""The classifiers that a collection's shards were made on, and the names of classes and images in reports."""

import re
from collections.abc import Sequence, Set
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.pipeline.targets.load import load_target, shard_name
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_names import TARGETS

_NAMED_FILE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]*)=(?P<file>.+)")


def classifiers_of(
    shards: Sequence[CommittedShard],
    cards: Sequence[str],
    weights: Sequence[str] = (),
    *,
    names: Set[str] | None = None,
) -> dict[str, Target]:
    """Build every classifier that the shards were made on.

    Args:
        shards: Committed shards.
        cards: Targets, as `load_target` takes them, that `TARGETS` does not know by the shards' names.
        weights: NAME=FILE of targets whose weights cannot be downloaded; FILE alone for a single target.
        names: Build these targets only, by their names in the shards; None for all.

    Returns:
        Classifiers by their names in the shards.

    Raises:
        InputError: A target is not given, its weights are not those that the shards were made with, or
            weights are given for none of the shards' targets.
    """
    made_on = {shard.shard_id.target for shard in shards}
    wanted = sorted(made_on if names is None else names)
    files = _files_by_target(weights, wanted, made_on.union(wanted))
    given = {shard_name(card): card for card in cards}
    classifiers = {name: _classifier(name, given.get(name, name), files.get(name)) for name in wanted}
    for target in classifiers.values():
        _check_weights(target, shards)
    return classifiers


def _files_by_target(weights: Sequence[str], wanted: Sequence[str], known: Set[str]) -> dict[str, Path]:
    """Weights files by target, from NAME=FILE or FILE.

    Raises:
        InputError: It is not clear whose they are, or they are of another target.
    """
    files: dict[str, Path] = {}
    for text in weights:
        named = _NAMED_FILE.fullmatch(text)
        if named is None and len(wanted) > 1:
            raise InputError(
                f"--weights {text}: whose? The shards are of {', '.join(wanted)}; write --weights NAME={text}"
            )
        for name in [named["name"]] if named else wanted:
            if name not in known:
                raise InputError(f"--weights {text}: the shards are of {', '.join(sorted(known))}")
            if name in files:
                raise InputError(f"--weights {text}: those of {name} are given already, {files[name]}")
            files[name] = Path(named["file"] if named else text)
    return files


def _classifier(name: str, origin: str, weights: Path | None) -> Target:
    """One target of the shards, from what the user gave for it or from what its name says.

    Raises:
        InputError: Its name says nothing, or its weights cannot be had.
    """
    if origin == name and name not in TARGETS:
        raise InputError(
            f"the shards were made on target {name!r}; give it with --target card.json or timm:NAME"
        )
    return load_target(origin, weights, option=f"--weights {name}=FILE")


def _check_weights(target: Target, shards: Sequence[CommittedShard]) -> None:
    """Refuse to evaluate shards with another network than they were made on."""
    name = target.card.name
    for shard in shards:
        made_on = shard.marker["config"]["target"]["weights"]
        if shard.shard_id.target == name and made_on != target.weights_sha256:
            raise InputError(
                f"{shard.tar}: made on {name!r} with other weights ({made_on[:12]}, here "
                f"{target.weights_sha256[:12]}); give the same by --target, or by --weights {name}=FILE"
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
