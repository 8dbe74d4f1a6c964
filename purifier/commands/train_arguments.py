"""What `impure-train` was asked for, and the training configuration that it amounts to."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from impure.manifests.base.errors import InputError
from impure.purifier.commands.shared_inputs import whole_numbers
from impure.purifier.defences.model_names import MODELS
from impure.purifier.riae.riae_config import DecoderKind, Mask
from impure.purifier.training.runtime_options import CacheKind

if TYPE_CHECKING:
    from impure.purifier.training.train_config import Adversary, Stage, TrainConfig

#: Options by the field of TrainConfig that they set.
_FIELDS = (
    "epochs", "batch_size", "grad_accum", "variants", "crop", "warmup_epochs", "weight_decay", "clip_grad",
    "lr_cycles", "ema_decay", "seed", "mask", "decoder", "subsets", "recipe", "bf16", "compiled",
    "clean_pairs",
)  # fmt: skip
#: Options that say nothing about the networks of other defences.
_FOR_RIAE = ("mask", "decoder", "subsets", "recipe", "compiled")
#: Options that say nothing about photographs.
_FOR_PAIRS = (
    "split", "attacks", "clean_pairs", "features", "feature_nodes", "feature_weights", "variants", "crop",
    "validate", "validate_images", "validate_epochs", "targets", "weights", "cache",
)  # fmt: skip
#: Options by the field of Adversary that they set.
_FOR_ADVERSARY = {
    "eps": "eps", "attack_steps": "steps", "clean_share": "clean_share", "ce_weight": "weight",
}  # fmt: skip
#: Options that say nothing where each clean image is attacked anew.
_FOR_STORED_PAIRS = ("attacks", "clean_pairs", "variants")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainArguments:
    """The values of the options in `training_options`, by their names; None where nothing was said."""

    shards: str | None
    split: str
    attacks: str | None
    clean_pairs: bool | None
    stage: "Stage"
    pretrain: bool
    images: str | None
    labels: Path | None
    init: Path | None
    model: str | None
    mask: Mask
    decoder: DecoderKind
    subsets: int
    recipe: str | None
    features: str | None
    feature_nodes: tuple[str, ...]
    feature_weights: Path | None
    eps: str | None
    attack_steps: int | None
    clean_share: float | None
    ce_weight: float | None
    hold_out: tuple[str, ...]
    epochs: int | None
    batch_size: int | None
    grad_accum: int | None
    variants: int | None
    crop: int | None
    lr: float | None
    blr: float | None
    warmup_epochs: int | None
    lr_cycles: int | None
    weight_decay: float | None
    clip_grad: float | None
    ema_decay: float | None
    bf16: bool
    compiled: bool
    seed: int
    validate: str | None
    validate_images: int
    validate_epochs: int | None
    targets: tuple[str, ...]
    weights: tuple[str, ...]
    tensorboard: bool
    workers: int | None
    cache: CacheKind | None
    device: str
    threads: int | None
    dry_run: bool
    profile: Path | None
    out: Path | None
    as_json: bool

    @property
    def photographs(self) -> bool:
        """Whether photographs are learnt from; `--pretrain` is short for `--stage pretrain`."""
        return self.pretrain or self.stage == "pretrain"


def check_together(asked: TrainArguments) -> None:
    """Refuse options that would do nothing, or contradict each other.

    Raises:
        InputError: There are such; the message says what to do.
    """
    if asked.lr is not None and asked.blr is not None:
        raise InputError("--lr and --blr both set the learning rate; give one")
    if asked.model in MODELS:
        if (first := MODELS[asked.model].first_stage) and asked.init is None:
            raise InputError(f"--model {asked.model} begins with a run of --model {first}; give --init RUN")
        _refuse_typed(_FOR_RIAE, f"is for RIAE; leave it away with --model {asked.model}")
    if asked.stage == "adversarial":
        _check_adversarial(asked)
    else:
        _refuse_typed((*_FOR_ADVERSARY, "hold_out"), "is for --stage adversarial")
    if not asked.photographs:
        if asked.images or asked.labels:
            raise InputError("--images and --labels are for --pretrain; pairs come from --shards")
        if not asked.shards:
            raise InputError("nothing to train on: give --shards ROOT, or --pretrain --images IMAGENET")
        return
    if asked.shards or not asked.images:
        raise InputError("--pretrain learns from photographs: give --images IMAGENET, and no --shards")
    names = set(_FOR_PAIRS) - ({"crop"} if asked.model in MODELS else set())
    _refuse_typed(names, "is for training on pairs; leave it away with --pretrain")


def _check_adversarial(asked: TrainArguments) -> None:
    """Refuse what the stage cannot begin with.

    Raises:
        InputError: There is such; the message says what to do.
    """
    if asked.pretrain:
        raise InputError("--pretrain is --stage pretrain; give one stage")
    if asked.model in MODELS:
        raise InputError(f"--stage adversarial is for RIAE; leave away --model {asked.model}")
    if asked.init is None:
        raise InputError("--stage adversarial goes on from trained weights; give --init RUN")
    _refuse_typed(_FOR_STORED_PAIRS, "is for stored pairs; leave it away with --stage adversarial")


def _refuse_typed(names: Collection[str], reason: str) -> None:
    """Refuse the options of some names, where they were given.

    Raises:
        InputError: One was; the message ends with the reason.
    """
    context = click.get_current_context()
    for option in context.command.params:
        typed = context.get_parameter_source(str(option.name)) != click.core.ParameterSource.DEFAULT
        if typed and option.name in names:
            raise InputError(f"{option.opts[0]} {reason}")


def train_config(model: str, asked: TrainArguments) -> "TrainConfig":
    """The training that suits the model, with what the user set.

    Raises:
        InputError: A value is impossible, or options of the loss lack others.
    """
    from impure.purifier.training.train_config import TrainConfig

    fields = set(_FIELDS) - (set(_FOR_RIAE) if model in MODELS else set())
    values = {name: getattr(asked, name) for name in fields if getattr(asked, name) is not None}
    values |= {} if asked.lr is None else {"learning_rate": asked.lr}
    values |= {} if asked.features is None else {"feature_network": asked.features}
    values |= {"stage": "pretrain", "recipe": asked.recipe or "pixel"} if asked.photographs else {}
    values |= {"stage": "adversarial", "adversary": _adversary(asked)} if asked.stage == "adversarial" else {}
    if asked.feature_nodes:
        values["nodes"], values["lambdas"] = zip(*map(_weighed, asked.feature_nodes), strict=True)
    config = TrainConfig.for_preset(model, **values)
    if not config.network and bool(config.loss.network) != bool(config.loss.lambdas):
        lacking = "--feature-node NODE=WEIGHT" if config.loss.network else "--features NETWORK"
        raise InputError(f"recipe {config.recipe!r} brings no feature loss; give {lacking} too")
    if asked.feature_weights and not config.network and not config.loss.network:
        raise InputError(f"--feature-weights: recipe {config.recipe!r} has no feature network")
    if asked.blr is None:
        return config
    return replace(config, learning_rate=asked.blr * config.batch_size / 256)


def _adversary(asked: TrainArguments) -> "Adversary":
    """The attacker, with what the user set.

    Raises:
        InputError: A value is impossible.
    """
    from impure.purifier.training.train_config import Adversary

    values = {field: getattr(asked, name) for name, field in _FOR_ADVERSARY.items()}
    given = {field: value for field, value in values.items() if value is not None}
    if asked.eps is not None:
        given["eps"] = whole_numbers("--eps", asked.eps, "4,8,16")
    return Adversary(**given)


def _weighed(text: str) -> tuple[str, float]:
    """NODE=WEIGHT as a name and a number."""
    node, _, weight = text.rpartition("=")
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not node or not 0 < number < math.inf:
        raise InputError(f"--feature-node {text!r}: write NODE=WEIGHT, such as layer4=10")
    return node, number
