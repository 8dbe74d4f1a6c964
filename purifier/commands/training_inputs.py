"""What `impure-train` learns from and is validated by: shards, photographs, frozen networks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from impure.manifests.base.errors import ImpureError, InputError
from impure.manifests.commands.click_options import comma_separated
from impure.manifests.commands.console import say
from impure.pipeline.sources.source_names import BUILTIN
from impure.purifier.commands.shared_inputs import open_shards
from impure.purifier.commands.train_arguments import TrainArguments

if TYPE_CHECKING:
    import torch
    from torch import nn

    from impure.manifests.collection.collection import CommittedShard
    from impure.pipeline.targets.target import Target
    from impure.purifier.training.data_source import DataSource
    from impure.purifier.training.train_config import TrainConfig
    from impure.purifier.training.validation.validator import Validator


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainInputs:
    """What a run is made of; arguments of `trainer.train`."""

    config: "TrainConfig"
    data_source: "DataSource"
    features: "nn.Module | None"
    classifiers: "Mapping[str, nn.Module]"
    device: "torch.device"


def open_train_inputs(
    shards: "list[CommittedShard]", config: "TrainConfig", device: "torch.device", asked: TrainArguments
) -> TrainInputs:
    """What a run is made of; the config also names the feature network that was found.

    Raises:
        InputError: There are no images, or a network cannot be had or does not suit them.
    """
    data_source = open_data_source(shards, config, asked)
    config, features = feature_network(config, shards, asked)
    return TrainInputs(
        config=config,
        data_source=data_source,
        features=features,
        classifiers=attacked_classifiers(shards, config, asked),
        device=device,
    )


def training_shards(asked: TrainArguments) -> "list[CommittedShard]":
    """The shards to train on; none for pre-training.

    Raises:
        InputError: There are none, or a target that is held out has none, or is the only one.
    """
    if asked.shards is None:
        return []
    shards = open_shards(asked.shards, {"splits": [asked.split], "attacks": comma_separated(asked.attacks)})
    targets = {shard.shard_id.target for shard in shards}
    if unknown := sorted(set(asked.hold_out) - targets):
        raise InputError(f"--hold-out {unknown[0]}: the shards are of {', '.join(sorted(targets))}")
    return without_held_out(shards, asked)


def without_held_out(shards: "list[CommittedShard]", asked: TrainArguments) -> "list[CommittedShard]":
    """The shards of targets that are not held out.

    Raises:
        InputError: There are none.
    """
    left = [shard for shard in shards if shard.shard_id.target not in asked.hold_out]
    if not left:
        raise InputError(f"--hold-out: beside {', '.join(asked.hold_out)} the shards have no target")
    return left


def attacked_classifiers(
    shards: "list[CommittedShard]", config: "TrainConfig", asked: TrainArguments
) -> "dict[str, Target]":
    """The targets that stage adversarial attacks through: those of its shards; none in other stages.

    Raises:
        InputError: One cannot be had, or they do not share their classes.
    """
    from impure.pipeline.targets.of_collection import classifiers_of

    if config.stage != "adversarial":
        return {}
    classifiers = classifiers_of(shards, asked.targets, asked.weights)
    if len({target.card.wnids for target in classifiers.values()}) > 1:
        names = ", ".join(classifiers)
        raise InputError(f"--stage adversarial: {names} have other classes; --hold-out those of one kind")
    return classifiers


def preset_for(shards: "list[CommittedShard]", asked: TrainArguments, *, quiet: bool) -> str:
    """The preset that suits the images, where none was asked for."""
    drawn = all(shard.shard_id.target == BUILTIN for shard in shards) if shards else asked.images == BUILTIN
    model = "tiny" if drawn else "base"
    if not quiet:
        say(f"Model: {model}" + (", for the built-in images; --model base is the paper's" if drawn else ""))
    return model


def open_data_source(
    shards: "list[CommittedShard]", config: "TrainConfig", asked: TrainArguments
) -> "DataSource":
    """What is learnt from: the pairs of shards, their clean images alone, or photographs.

    Stage adversarial takes the clean images, and attacks them itself.

    Raises:
        InputError: There are none, or the network cannot learn from photographs.
    """
    from impure.purifier.defences.defence_registry import NETWORKS
    from impure.purifier.training.data_source import PairSource
    from impure.purifier.training.setup import open_photographs

    clean = config.stage == "adversarial"
    if config.network:
        clean = NETWORKS[config.network].network_kind.learns_from == "clean"
    if asked.images is not None:
        if config.network and not clean:
            raise InputError(f"--pretrain: model {config.preset} learns from pairs; give --shards ROOT")
        return open_photographs(asked.images, asked.labels)
    if clean:
        return PairSource(shards, attacked_pairs=False)
    return PairSource(shards, clean_pairs=config.clean_pairs)


def feature_network(
    config: "TrainConfig", shards: "list[CommittedShard]", asked: TrainArguments
) -> "tuple[TrainConfig, Target | None]":
    """The frozen network that the loss needs, and the config that names it.

    It is the one asked for, the paper's, or the classifier that the shards were made on.

    Raises:
        InputError: It cannot be had, or the shards were made on several classifiers.
    """
    from impure.pipeline.targets.of_collection import classifiers_of
    from impure.purifier.defences.defence_registry import NETWORKS
    from impure.purifier.training.setup import open_features

    default = NETWORKS[config.network].network_kind.features if config.network else None
    if config.network and default is None and not config.feature_network:
        return config, None
    if config.feature_network or default is None or default.network:
        return config, open_features(config, asked.feature_weights, default)
    if not shards:
        raise InputError(f"model {config.preset} needs a classifier; give --features NAME or CARD.json")
    classifiers = classifiers_of(shards, asked.targets, asked.weights)
    if len(classifiers) > 1:
        names = ", ".join(classifiers)
        raise InputError(f"model {config.preset} learns behind one classifier; give --features, of {names}")
    (name,) = classifiers
    return replace(config, feature_network=name), classifiers[name]


def open_validator(
    config: "TrainConfig", out: Path, device: "torch.device", asked: TrainArguments
) -> "Validator | None":
    """The validator that was asked for, or where none was, the one that can be had.

    Raises:
        InputError: Something of it was asked for, or the run was validated before, and it cannot be had.
    """
    from impure.pipeline.targets.of_collection import class_names, classifiers_of
    from impure.purifier.evaluation.validation_table import FILE
    from impure.purifier.training.validation.adaptive_validator import AdaptiveValidator
    from impure.purifier.training.validation.stored_validator import StoredValidator

    split = asked.validate or "validation"
    if asked.shards is None or split == "none":
        return None
    try:
        shards = without_held_out(open_shards(asked.shards, {"splits": [split]}), asked)
        classifiers = classifiers_of(shards, asked.targets, asked.weights)
    except ImpureError as error:
        if asked.validate or asked.targets or asked.weights or (out / FILE).exists():
            raise
        say(f"No validation: {error}")
        return None
    if config.adversary:
        return AdaptiveValidator(
            shards, classifiers, out, eps=config.adversary.eps[-1], images=asked.validate_images,
            batch_size=32, device=device, progress=True,
        )  # fmt: skip
    return StoredValidator(
        shards, classifiers, out, images=asked.validate_images, batch_size=32, device=device,
        class_names=class_names(shards), progress=True,
    )  # fmt: skip
