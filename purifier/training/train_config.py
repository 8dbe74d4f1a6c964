"""What decides a training run, and its learning-rate schedule."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

import torch

from impure.manifests.base.canonical_json import plain
from impure.manifests.base.errors import InputError
from impure.purifier.losses.perceptual import RECIPES, Recipe
from impure.purifier.riae.riae_config import DecoderKind, Mask, RIAEConfig, preset

Stage = Literal["pairs", "pretrain"]


FINAL_RATE = 1e-8  # where the cosine ends


#: What differs from the paper's training for a preset; `TrainConfig.for_preset` applies it.
TRAINING: dict[str, dict[str, Any]] = {
    "base": {},
    "small": {"learning_rate": 5e-4},
    "tiny": {"learning_rate": 5e-3, "batch_size": 8, "epochs": 3, "warmup_epochs": 1, "recipe": "pixel"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a run learns; the defaults are the paper's (section 4.1).

    Raises:
        InputError: A value is impossible; the message names it.
    """

    preset: str = "base"
    mask: Mask = "both"
    decoder: DecoderKind = "copies"
    stage: Stage = "pairs"  # pretrain: clean photographs and the pixel loss alone
    recipe: str = "code"
    feature_network: str = ""  # "" for the recipe's
    nodes: tuple[str, ...] = ()  # of the feature network; empty for the recipe's
    lambdas: tuple[float, ...] = ()  # one for each node
    epochs: int = 100
    batch_size: int = 64  # images of one update, over all ranks and accumulated parts
    accumulate: int = 1  # parts of each rank's share of a batch, one after the other
    variants: int = 2  # pairs of one clean image that stand together and share its crop and features
    learning_rate: float = 1e-4
    warmup_epochs: int = 5
    weight_decay: float = 0.05
    grad_clip: float = 0.0  # largest norm of the gradient; 0 for none
    ema: float = 0.0  # decay of the averaged weights, such as 0.9999; 0 for none
    crop: int | None = None  # pixels; None: 192 of 224, 256 of 299, and else the whole image
    clean_pairs: bool = True  # also learn to leave clean images alone
    bf16: bool = False
    compiled: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self.riae()
        for name in ("epochs", "batch_size", "accumulate", "variants"):
            if getattr(self, name) < 1:
                raise InputError(f"training: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "weight_decay", "grad_clip", "ema", "seed", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"training: {name} is {getattr(self, name)}; it must be finite, not negative"
                )
        if self.warmup_epochs > self.epochs:
            raise InputError(f"training: warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")
        if self.recipe not in RECIPES:
            raise InputError(f"training: no recipe {self.recipe!r}; choose from {', '.join(RECIPES)}")
        if self.stage not in get_args(Stage) or (self.stage == "pretrain" and self.loss.lambdas):
            raise InputError(
                f"training: stage {self.stage!r} with recipe {self.recipe!r}; pre-training takes recipe pixel"
            )
        if not self.ema < 1:
            raise InputError(f"training: ema is {self.ema}; it must be below 1")
        if len(self.nodes) != len(self.lambdas):
            raise InputError(
                f"training: {len(self.nodes)} nodes but {len(self.lambdas)} lambdas; give one for each"
            )

    @classmethod
    def for_preset(cls, name: str, **values: Any) -> "TrainConfig":
        """The training that suits a preset, with some values changed; a short one warms up for less."""
        known = {field.name: field.default for field in fields(cls)}
        chosen = {"preset": name, **TRAINING.get(name, {}), **values}
        epochs = chosen.get("epochs", known["epochs"])
        chosen.setdefault("warmup_epochs", known["warmup_epochs"])
        if "warmup_epochs" not in values and isinstance(epochs, int):
            chosen["warmup_epochs"] = min(chosen["warmup_epochs"], epochs // 2)
        return cls(**chosen)

    def riae(self) -> RIAEConfig:
        """The network to train."""
        return preset(self.preset, self.mask, self.decoder)

    @property
    def loss(self) -> Recipe:
        """The recipe, with the feature network, nodes and weights that this config puts in their place."""
        recipe = RECIPES[self.recipe]
        lambdas = dict(zip(self.nodes, self.lambdas, strict=True)) or recipe.lambdas
        return replace(recipe, network=self.feature_network or recipe.network, lambdas=lambdas)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Learning rate of a step: linear warm-up, then a cosine down to `FINAL_RATE`.

    Args:
        config: The training.
        step: Counted from the beginning, from 0.
        steps: In an epoch.
    """
    warm, total = config.warmup_epochs * steps, config.epochs * steps
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    share = (step - warm) / max(total - warm, 1)
    return FINAL_RATE + (config.learning_rate - FINAL_RATE) * (1 + math.cos(math.pi * share)) / 2


def describe_run(config: TrainConfig, data: Mapping[str, Any], init: Mapping[str, Any]) -> dict[str, Any]:
    """What `config.json` holds: the network, the training, the data's identity, the software.

    Args:
        config: The recipe.
        data: What identifies the data.
        init: What identifies the weights that the run began with; empty for random ones.
    """
    parts = {"riae": asdict(config.riae()), "train": asdict(config), "data": data, "init": init}
    return {**plain(parts), "software": {"torch": torch.__version__}}
