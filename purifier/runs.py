"""A training run's config, schedule, folder and log."""

import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from impure.manifests.config import canonical_json, differing_fields, digest
from impure.manifests.errors import InputError
from impure.manifests.store import atomic_path, read_json
from impure.purifier.checkpoint import CONFIG, STATE, riae_config, save_config
from impure.purifier.data import Pair, pairs_digest
from impure.purifier.losses import RECIPES, Recipe
from impure.purifier.riae import RIAE, Mask, preset

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
    recipe: str = "code"
    feature_network: str = ""  # "" for the recipe's
    nodes: tuple[str, ...] = ()  # of the feature network; empty for the recipe's
    lambdas: tuple[float, ...] = ()  # one for each node
    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 1e-4
    warmup_epochs: int = 5
    weight_decay: float = 0.05
    grad_clip: float = 0.0  # largest norm of the gradient; 0 for none
    crop: int | None = None  # pixels; None: 192 of 224, 256 of 299, and else the whole image
    clean_pairs: bool = True  # also learn to leave clean images alone
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        preset(self.preset, self.mask)
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"training: {name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "weight_decay", "grad_clip", "seed", "warmup_epochs"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(
                    f"training: {name} is {getattr(self, name)}; it must be finite, not negative"
                )
        if self.warmup_epochs > self.epochs:
            raise InputError(f"training: warmup_epochs {self.warmup_epochs} exceeds epochs {self.epochs}")
        if self.recipe not in RECIPES:
            raise InputError(f"training: no recipe {self.recipe!r}; choose from {', '.join(RECIPES)}")
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


def describe_run(config: TrainConfig, model: RIAE, pairs: Sequence[Pair]) -> dict[str, Any]:
    """What `config.json` holds: the network, the training, the data's identity, the software."""
    units = {str(pair.unit.unit): pair.unit for pair in pairs}
    data = {
        "pairs": len(pairs),
        "pixels": pairs_digest(pairs),
        "units": sorted(units),
        "collections": sorted({digest(unit.rows()[1]) for unit in units.values()}),
    }
    described = {"riae": riae_config(model), "train": asdict(config), "data": data}
    plain: dict[str, Any] = json.loads(canonical_json(described))
    return {**plain, "software": {"torch": torch.__version__}}


def open_run(out: Path, config: Mapping[str, Any], *, resume: bool) -> bool:
    """Make a run's folder, or recognise the run that is there.

    Returns:
        Whether there is a state to go on from.

    Raises:
        InputError: `out` holds another run, or any run without `resume`, or cannot be written.
    """
    if not (out / CONFIG).exists():
        save_config(out, config)
        return False
    if not resume:
        raise InputError(f"{out}: holds a run already; resume it or choose another folder")
    found = read_json(out / CONFIG)
    parts = ("riae", "train", "data")
    ours, theirs = ({part: each.get(part) for part in parts} for each in (config, found))
    if differing := differing_fields(ours, theirs):
        raise InputError(
            f"{out}: holds another run; it differs in {'; '.join(differing)}. Choose another folder"
        )
    return (out / STATE).exists()


class TrainLog:
    """The run's `log.csv`: means over the steps since the row before."""

    COLUMNS = ("epoch", "step", "loss", "pixel", "perceptual", "learning_rate", "images_per_second")

    def __init__(self, out: Path) -> None:
        self._path = out / "log.csv"
        self._losses: list[Tensor] = []
        self._images = 0
        self._since = time.monotonic()

    def forget_after(self, step: int) -> None:
        """Drop the rows of steps that a resumed run takes once more."""
        if not self._path.exists():
            return
        with self._path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        with atomic_path(self._path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, losses: Tensor, images: int) -> None:
        """Note one step: its losses (3,), on any device, and how many images it saw."""
        self._losses.append(losses)
        self._images += images

    def write(self, epoch: int, step: int, rate: float) -> float:
        """Append a row; the mean loss in it.

        Raises:
            InputError: The file cannot be written.
        """
        loss, pixel, perceptual = torch.stack(self._losses).mean(0).tolist()
        now = time.monotonic()
        speed = round(self._images / max(now - self._since, 1e-9), 2)
        try:
            with self._path.open("a", newline="") as file:
                writer = csv.writer(file)
                if file.tell() == 0:
                    writer.writerow(self.COLUMNS)
                writer.writerow((epoch, step, loss, pixel, perceptual, rate, speed))
        except OSError as error:
            raise InputError(f"{self._path}: cannot be written ({error})") from error
        self._losses, self._images, self._since = [], 0, now
        return float(loss)
