"""Training: an exactly resumable run on one device or, under torchrun, on many (paper, Algorithm 1)."""

import itertools
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.files import atomic_path, read_json
from impure.purifier.checkpoints.checkpoint import BEST, load_state, save_checkpoint, save_weights
from impure.purifier.checkpoints.init_weights import initialise
from impure.purifier.checkpoints.model_card import write_card
from impure.purifier.data.dataset import Batch, Loader
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.pretrained import CONFIG
from impure.purifier.training.data_source import BatchOrder, DataSource
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.run_folder import only_trainer, open_run
from impure.purifier.training.runtime_options import RuntimeOptions
from impure.purifier.training.train_config import TrainConfig, describe_run, learning_rate
from impure.purifier.training.train_log import TrainLog, check_tensorboard
from impure.purifier.training.train_step import TrainStep
from impure.purifier.training.validation import Validator

OPTIONS = "run.yaml"


WRITTEN = "# What impure-train was asked for; `--config` takes it back.\n"


def train(
    config: TrainConfig,
    material: DataSource,
    features: nn.Module | None,
    out: Path,
    device: torch.device,
    *,
    habits: RuntimeOptions | None = None,
    ranks: Ranks | None = None,
    init: Path | None = None,
    validator: Validator | None = None,
    options: str = "",
) -> Path:
    """Train a RIAE, or go on where a killed run stopped; on the CPU both end with the same bits.

    Args:
        config: The whole recipe.
        material: What to learn from.
        features: Feature network for the perceptual loss: takes RGB in [0,1], normalises inside. It gets
            frozen. None is right only for recipes without one.
        out: The run's folder: config.json, log.csv, state.pt, model.safetensors, README.md; with a validator
            also validation.csv, strips of images, and best/ with the best weights so far.
        device: Where to compute.
        habits: How to go about it.
        ranks: The processes that train together; all call this with the same arguments.
        init: Weights to begin with (see `convert.initialise`).
        validator: Judges the purifier at the end of epochs; the leading rank's does.
        options: What was asked for, to be kept as run.yaml (see `keep_options`).

    Returns:
        `out`.

    Raises:
        InputError: Bad shards or config, another run in `out`, a feature network that is missing or not asked
            for, or a loss that is no longer finite.
        WriteError: The folder cannot be written.
    """
    if bool(config.loss.lambdas) != (features is not None):
        need = f"needs its feature network {config.loss.network!r}" if features is None else "takes none"
        raise InputError(f"recipe {config.recipe!r} {need}")
    habits, ranks = habits or RuntimeOptions(), ranks or Ranks()
    if habits.tensorboard:
        check_tensorboard()
    order = material.order(config, ranks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RIAE(config.riae())
    taken = {} if init is None else asdict(initialise(model, init))
    described = describe_run(config, material.describe(), taken)
    learner = TrainStep(config, model, features, device, ranks)
    with only_trainer(out) if ranks.leads else nullcontext():
        begun = ranks.leads and open_run(out, described)
        if ranks.leads and not begun:
            keep_options(out / OPTIONS, options)
        run = _Run(config, learner, order, out, habits, validator)
        if ranks.decide(begun, device):  # the others need not see the folder before
            run.load()
        run.go(material.dataset)
    return out


def plan(config: TrainConfig, material: DataSource, world: int = 1) -> dict[str, Any]:
    """What a run would be, without beginning it.

    Raises:
        InputError: As `train`, as far as that shows before the first update.
    """
    steps = material.order(config, Ranks(world=world)).steps
    with torch.device("meta"):
        parameters = sum(each.numel() for each in RIAE(config.riae()).parameters())
    data = material.describe()
    return {
        "model": config.preset,
        "parameters": parameters,
        "images_an_epoch": data.get("pairs", data.get("photographs")),
        "updates_an_epoch": steps,
        "epochs": config.epochs,
        "updates": steps * config.epochs,
        "ranks": world,
        "config": asdict(config),
    }


def keep_options(path: Path, options: str) -> None:
    """Write what a new run was asked for, but never over a file that somebody wrote themselves."""
    ours = not path.exists() or path.read_bytes().startswith(WRITTEN.encode())
    if options and ours:
        with atomic_path(path) as temporary:
            temporary.write_text(WRITTEN + options, encoding="utf-8")


class _Run:
    """One run: what changes is the learner and the position (epoch, step)."""

    def __init__(
        self,
        config: TrainConfig,
        learner: TrainStep,
        order: BatchOrder,
        out: Path,
        habits: RuntimeOptions,
        validator: Validator | None,
    ) -> None:
        self.config, self.learner, self.order, self.out, self.habits = config, learner, order, out, habits
        self.ranks, self.validator = learner.ranks, validator
        self.log = TrainLog(out, tensorboard=habits.tensorboard and self.ranks.leads)
        self.epoch = self.step = 0  # step: inside the epoch
        self.saved = time.monotonic()

    @property
    def done(self) -> int:
        """Updates since the beginning."""
        return self.epoch * self.order.steps + self.step

    def load(self) -> None:
        """Take everything that changes from the last checkpoint."""
        state = load_state(self.out)
        try:
            learner, self.epoch, self.step = state["learner"], int(state["epoch"]), int(state["step"])
            self.learner.load(learner, str(self.out))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.out}: its state.pt is of no such run ({first_line(error)}); delete it to start afresh"
            ) from error

    def go(self, dataset: Dataset[Batch]) -> None:
        """Train to the end of the last epoch."""
        if self.ranks.leads:
            self.log.begin_after(self.done)
            if self.validator is not None:
                self.validator.forget_after(self.epoch)
        self.log.clear()
        total = self.config.epochs * self.order.steps
        shown = self.habits.progress and self.ranks.leads
        with tqdm(total=total, initial=self.done, unit="step", disable=not shown) as bar:
            for parts in self.batches(dataset):
                rate = learning_rate(self.config, self.done, self.order.steps)
                self.log.add(self.learner.update(parts, self.done, rate), self.images(parts))
                self.step += 1
                if self.step == self.order.steps:
                    self.epoch, self.step = self.epoch + 1, 0
                if self.step == 0 or self.done % self.habits.log_steps == 0:
                    bar.set_postfix(epoch=self.epoch, loss=f"{self.pause(rate):.4f}")
                bar.update()

    def batches(self, dataset: Dataset[Batch]) -> Iterator[list[Batch]]:
        """The parts of each batch that is left, from the present position on."""
        pinned = self.learner.device.type == "cuda"
        loader = Loader(dataset, self.order, workers=self.habits.workers, pin_memory=pinned)
        while self.epoch < self.config.epochs:
            self.order.epoch, self.order.start = self.epoch, self.step
            parts = iter(loader)
            while found := list(itertools.islice(parts, self.config.accumulate)):
                yield found

    def images(self, parts: list[Batch]) -> int:
        """Images of an update on all ranks."""
        return round(sum(len(part.adversarial) for part in parts) / sum(part.share for part in parts))

    def pause(self, rate: float) -> float:
        """Write the log, and validate and save where it is time; returns the mean loss."""
        losses = self.ranks.sum(self.log.means()).tolist()
        if self.ranks.leads:
            self.log.write(self.epoch, self.done, rate, losses)
        self.check(math.isfinite(losses[0]))
        late = time.monotonic() - self.saved >= self.habits.checkpoint_seconds
        if self.step == 0 or self.ranks.decide(late, self.learner.device):
            self.check(self.learner.is_finite())
            if self.ranks.leads:
                self.save()
            self.ranks.wait()
        self.log.clear()
        return float(losses[0])

    def save(self) -> None:
        """Write a checkpoint; at an epoch's end after asking the validator."""
        last = self.epoch == self.config.epochs
        if self.validator and self.step == 0 and (last or self.epoch % self.habits.validate_epochs == 0):
            self.validate(self.validator)
        weights = self.learner.export_model.state_dict()
        state = {"learner": self.learner.state(), "epoch": self.epoch, "step": self.step}
        if self.step == 0:
            write_card(self.out)
        save_checkpoint(self.out, weights, state)
        self.saved = time.monotonic()

    def validate(self, validator: Validator) -> None:
        """Judge the purifier, and keep it apart if it is the best so far."""
        model, before = self.learner.export_model, validator.best()
        score = validator(model, self.epoch)
        self.log.curve("validation", self.done, {"attacked": score.attacked, "clean": score.clean})
        if before is None or score.better_than(before[1]):
            config = {**read_json(self.out / CONFIG), "epoch": self.epoch}
            save_weights(self.out / BEST, model.state_dict(), config)
            write_card(self.out / BEST)

    def check(self, finite: bool) -> None:
        """Stop if something is not finite."""
        if not finite:
            raise InputError(
                f"{self.out}: the loss is no longer finite at step {self.done} (epoch {self.epoch}); the "
                "last good checkpoint, if there was one, is kept. Train with a lower --lr and another --out"
            )
