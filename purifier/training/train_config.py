"""What decides a training run: its hyperparameters, and the schedule of its learning rate; no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.parameters import Value
from impure.purifier.defences.model_names import MODELS
from impure.purifier.losses.recipe import RECIPES, Recipe
from impure.purifier.riae.riae_config import DecoderKind, Mask, RIAEConfig, preset

Stage = Literal["pairs", "pretrain", "adversarial"]

FINAL_RATE = 1e-8  # learning rate where the cosine ends
MOST_CLEAN = 0.5  # of a batch: more would hardly be adversarial training

#: What differs from the paper's training for a preset; `TrainConfig.for_preset` applies it.
TRAINING: dict[str, dict[str, Any]] = {
    "base": {},
    "small": {"learning_rate": 5e-4},
    "tiny": {"learning_rate": 5e-3, "batch_size": 8, "epochs": 3, "warmup_epochs": 1, "recipe": "pixel"},
}
#: What differs for a recipe: the release's schedule, batch (of its 224-pixel stream) and learning rate.
RECIPE_TRAINING: dict[str, dict[str, Any]] = {
    "release": {"epochs": 300, "lr_cycles": 3, "batch_size": 336, "learning_rate": 9.375e-5},
}
#: What differs in stage adversarial, which goes on from trained weights; its learning rate is smaller too.
ADVERSARIAL_TRAINING: dict[str, Any] = {"epochs": 15, "warmup_epochs": 1, "ema_decay": 0.99}
ADVERSARIAL_RATE = 0.25  # of the learning rate that the preset has else


@dataclass(frozen=True, slots=True, kw_only=True)
class Adversary:
    """Whom stage adversarial trains against: PGD through RIAE and a target (Madry et al. 2018, 1706.06083).

    Raises:
        InputError: A value is impossible; the message names it.
    """

    eps: tuple[int, ...] = (4, 8, 16)  # L∞ budgets in units of 1/255, each for an equal part of the run
    steps: int = 3  # of each attack, K; a step is 1.25 eps / K
    clean_share: float = 0.25  # of each batch that is not attacked
    weight: float = 1.0  # of the cross-entropy, beside the distances from the clean image

    def __post_init__(self) -> None:
        if not self.eps or not all(1 <= eps <= 255 for eps in self.eps):
            raise InputError(f"adversary: eps is {self.eps}; give budgets from 1 to 255, in units of 1/255")
        if self.steps < 1:
            raise InputError(f"adversary: steps is {self.steps}; it must be at least 1")
        if not 0 <= self.clean_share <= MOST_CLEAN:
            raise InputError(
                f"adversary: clean_share is {self.clean_share}; it must be from 0 to {MOST_CLEAN}"
            )
        if not 0 < self.weight < math.inf:
            raise InputError(f"adversary: weight is {self.weight}; it must be positive and finite")

    def eps_at(self, progress: float) -> int:
        """The budget when a share of the run, in [0, 1), is done."""
        return self.eps[min(int(progress * len(self.eps)), len(self.eps) - 1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Everything that decides what a run learns; the defaults are the paper's (section 4.1).

    Raises:
        InputError: A value is impossible; the message names it.
    """

    preset: str = "base"  # the paper's, 115.8 M parameters; others in riae_config.PRESETS and in MODELS
    network: str = ""  # a defence's network that is trained in RIAE's place; see model_names.Model
    sizes: Mapping[str, Value] = field(default_factory=dict)  # of that network, where not its paper's
    mask: Mask = (
        "both"  # how a subset of patches is masked: noise on the image and on the features (paper, 5.1)
    )
    decoder: DecoderKind = (
        "copies"  # the paper's; cross decodes the masked tokens alone, at a quarter of its cost
    )
    subsets: int = 4  # that an image's patches are divided into: 2, 3 or 4
    stage: Stage = "pairs"  # pretrain: clean photographs, pixel loss alone; adversarial: attacks made anew
    adversary: Adversary | None = None  # who makes them; None in other stages
    recipe: str = (
        "code"  # see losses.recipe: the authors' loss, their whole program, the paper's text, or pixels alone
    )
    feature_network: str = ""  # network of the perceptual loss; "" for the recipe's
    nodes: tuple[str, ...] = ()  # layers of the feature network; empty for the recipe's
    lambdas: tuple[float, ...] = ()  # weight of each node in the loss (lambda_i of Eq. 14)
    epochs: int = 100  # passes over all pairs
    batch_size: int = 64  # global: images of one update, over all ranks and micro-batches
    grad_accum: int = 1  # micro-batches of a rank in one update, one after the other, for less memory
    variants: int = 2  # pairs of one clean image that stand together and share its crop and features
    learning_rate: float = 1e-4  # AdamW's at the peak, after the warm-up
    warmup_epochs: int = 5  # epochs of linearly rising learning rate; a cosine follows, down to FINAL_RATE
    lr_cycles: int = 1  # cosines one after the other, each from the peak down; the warm-up is in the first
    beta2: float = 0.95  # AdamW's
    weight_decay: float = 0.05  # AdamW's, on matrices and kernels alone
    clip_grad: float = 0.0  # largest norm of the gradient; 0 for no clipping
    ema_decay: float = 0.0  # of the moving average of the weights, such as 0.9999; 0 for no average
    crop: int | None = None  # side in pixels; None: 192 of 224, 256 of 299, and else the whole image
    clean_pairs: bool = True  # also learn to leave clean images alone
    bf16: bool = False  # autocast to bfloat16; weights and loss stay float32
    compiled: bool = False  # compile the network with torch.compile
    seed: int = 0  # of initial weights, order, crops, partitions and noise

    def __post_init__(self) -> None:
        self._check_network()
        self._check_stage()
        for name in ("epochs", "batch_size", "grad_accum", "variants", "lr_cycles"):
            if getattr(self, name) < 1:
                raise InputError(f"training: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "weight_decay", "clip_grad", "ema_decay", "seed", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"training: {name} is {getattr(self, name)}; it must be finite, not negative"
                )
        if self.warmup_epochs * self.lr_cycles > self.epochs:
            cycles = f" in {self.lr_cycles} cycles" if self.lr_cycles > 1 else ""
            raise InputError(
                f"training: warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}{cycles}"
            )
        if not self.ema_decay < 1:
            raise InputError(f"training: ema_decay is {self.ema_decay}; it must be below 1")
        if len(self.nodes) != len(self.lambdas):
            raise InputError(
                f"training: {len(self.nodes)} nodes but {len(self.lambdas)} lambdas; give one for each"
            )

    def _check_network(self) -> None:
        """Refuse what no network, or that of a defence, can have."""
        if not self.network:
            self.riae()
        elif self.compiled:
            raise InputError(f"training: model {self.preset} is not compiled; that pays for RIAE alone")

    def _check_stage(self) -> None:
        """Refuse a stage that is none, or cannot be with the rest."""
        if self.recipe not in RECIPES:
            raise InputError(f"training: no recipe {self.recipe!r}; choose from {', '.join(RECIPES)}")
        if self.stage not in get_args(Stage) or (self.stage == "pretrain" and self.loss.lambdas):
            raise InputError(
                f"training: stage {self.stage!r} with recipe {self.recipe!r}; pre-training takes recipe pixel"
            )
        if (self.stage == "adversarial") != (self.adversary is not None):
            raise InputError(
                f"training: stage {self.stage!r} with adversary {self.adversary}; they go together"
            )
        if self.adversary and self.network:
            raise InputError(f"training: stage adversarial is for RIAE, not for model {self.preset}")

    @classmethod
    def for_preset(cls, name: str, **values: Any) -> "TrainConfig":
        """The training that suits a preset, with some values changed; a short one warms up for less."""
        known = {entry.name: entry.default for entry in fields(cls)}
        recipe = {"preset": name, **_training_of(name), **values}.get("recipe", known["recipe"])
        chosen = {"preset": name, **_training_of(name), **RECIPE_TRAINING.get(recipe, {})}
        if values.get("stage") == "adversarial":
            rate = ADVERSARIAL_RATE * chosen.get("learning_rate", known["learning_rate"])
            chosen |= {**ADVERSARIAL_TRAINING, "adversary": Adversary(), "learning_rate": rate}
        chosen |= values
        epochs = chosen.get("epochs", known["epochs"])
        chosen.setdefault("warmup_epochs", known["warmup_epochs"])
        if "warmup_epochs" not in values and isinstance(epochs, int):
            chosen["warmup_epochs"] = min(chosen["warmup_epochs"], epochs // (2 * chosen.get("lr_cycles", 1)))
        return cls(**chosen)

    def riae(self) -> RIAEConfig:
        """The network to train."""
        return preset(self.preset, self.mask, self.decoder, self.subsets)

    @property
    def loss(self) -> Recipe:
        """The recipe, with the feature network, nodes and weights that this config puts in their place."""
        recipe = RECIPES[self.recipe]
        lambdas = dict(zip(self.nodes, self.lambdas, strict=True)) or recipe.lambdas
        return replace(recipe, network=self.feature_network or recipe.network, lambdas=lambdas)


def _training_of(name: str) -> dict[str, Any]:
    """What differs from the paper's training of RIAE for a preset or a model."""
    if name not in MODELS:
        return TRAINING.get(name, {})
    model = MODELS[name]
    return {"network": model.network, "sizes": model.sizes, "recipe": "pixel", **model.training}


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Learning rate of an update: linear warm-up, then a cosine down to `FINAL_RATE` (paper, section 4.1).

    Further cycles are whole cosines from the peak, without a warm-up.

    Args:
        config: The training.
        step: Number of the update since the beginning, from 0.
        steps: Updates in an epoch.
    """
    cycle = config.epochs * steps / config.lr_cycles
    number = min(int(step // cycle), config.lr_cycles - 1)
    warm = 0 if number else config.warmup_epochs * steps
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    progress = (step - number * cycle - warm) / max(cycle - warm, 1)
    return FINAL_RATE + (config.learning_rate - FINAL_RATE) * (1 + math.cos(math.pi * progress)) / 2
