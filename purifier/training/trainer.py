"""Training: an exactly resumable run on one device or, under torchrun, on many (paper, Algorithm 1)."""

import itertools
import math
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.files import read_json
from impure.manifests.commands.console import say
from impure.purifier.checkpoints.checkpoint import BEST, load_state, save_checkpoint, save_weights
from impure.purifier.checkpoints.model_card import write_card
from impure.purifier.data.dataset import Batch
from impure.purifier.defences.open_checkpoint import RIAE_NAME
from impure.purifier.riae.pretrained import CONFIG
from impure.purifier.training.data_source import BatchOrder, DataSource, open_loader
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.objectives.open_objective import open_objective
from impure.purifier.training.run_folder import describe_run, only_trainer, open_run, rank_log
from impure.purifier.training.runtime_options import RuntimeOptions
from impure.purifier.training.skipped_photos import SkippedPhotos
from impure.purifier.training.stop_signals import StopRequest, TrainingStopped, stop_signals
from impure.purifier.training.train_config import TrainConfig, learning_rate
from impure.purifier.training.train_log import TrainLog, check_tensorboard
from impure.purifier.training.train_step import TrainStep
from impure.purifier.training.validation.validator import Validator


def train(
    config: TrainConfig,
    data_source: DataSource,
    features: nn.Module | None,
    out: Path,
    device: torch.device,
    *,
    runtime: RuntimeOptions | None = None,
    ranks: Ranks | None = None,
    init: Path | None = None,
    classifiers: Mapping[str, nn.Module] | None = None,
    validator: Validator | None = None,
    options: str = "",
) -> Path:
    """Train a network, or go on where a killed run stopped; on the CPU both end with the same bits.

    Args:
        config: The whole recipe.
        data_source: What to learn from.
        features: The frozen network that the loss needs: takes RGB in [0,1], normalises inside. None is right
            only for losses without one.
        out: The run's folder: config.json, log.csv, state.pt, model.safetensors, README.md; with a validator
            also validation.csv, strips of images, and best/ with the best weights so far. After a failure
            also logs/ (see `rank_log`).
        device: Where to compute.
        runtime: What changes nothing of what is learnt.
        ranks: The processes that train together; all call this with the same arguments.
        init: Weights to begin with (see `Objective.begin_with`).
        classifiers: What stage adversarial attacks through, by name.
        validator: Measures the defence at the end of epochs; only the main rank needs one.
        options: What was asked for, to be kept as run.yaml (see `keep_options`).

    Returns:
        `out`.

    Raises:
        TrainingStopped: SIGTERM or Ctrl-C came; all updates so far are saved.
        InputError: Bad shards or config, another run in `out`, a feature network that is missing or not asked
            for, or a loss that is no longer finite.
        WriteError: The folder cannot be written.
    """
    runtime = runtime or RuntimeOptions()
    ranks = ranks or Ranks()
    if runtime.tensorboard:
        check_tensorboard()
    objective = open_objective(config, features, classifiers)
    order = data_source.order(config, ranks, objective.multiple)
    begun_from = {} if init is None else objective.begin_with(init)
    described = describe_run(config, objective.describe(), data_source.describe(), begun_from)
    train_step = TrainStep(config, objective, device, ranks)
    with (
        closing(open_loader(data_source, order, device, runtime)) as loader,
        only_trainer(out) if ranks.is_main else nullcontext(),
    ):
        resuming = ranks.is_main and open_run(out, described, options)
        resuming = ranks.broadcast(resuming, device)  # the other ranks need not see the folder before this
        with rank_log(out, ranks.rank), stop_signals() as stop:
            trainer = _Trainer(config, train_step, order, out, runtime, validator, stop)
            if resuming:
                trainer.load()
            trainer.run(loader)
    return out


class _Trainer:
    """The loop of one run: what changes is the state of `train_step` and the position (epoch, step)."""

    def __init__(
        self,
        config: TrainConfig,
        train_step: TrainStep,
        order: BatchOrder,
        out: Path,
        runtime: RuntimeOptions,
        validator: Validator | None,
        stop: StopRequest,
    ) -> None:
        self.config = config
        self.train_step = train_step
        self.order = order
        self.out = out
        self.runtime = runtime
        self.validator = validator
        self.stop = stop
        self.ranks = train_step.ranks
        self.log = TrainLog(
            out, train_step.objective.loss_names, tensorboard=runtime.tensorboard and self.ranks.is_main
        )
        self.skipped = SkippedPhotos()
        self.epoch = 0
        self.step = 0  # inside the epoch
        self.saved_at = time.monotonic()

    @property
    def updates(self) -> int:
        """Updates since the beginning."""
        return self.epoch * self.order.steps + self.step

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        return self.config.epochs * self.order.steps

    def load(self) -> None:
        """Take everything that changes from the last checkpoint."""
        state = load_state(self.out)
        try:
            self.epoch = int(state["epoch"])
            self.step = int(state["step"])
            self.train_step.load(state["train_step"], str(self.out))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.out}: its state.pt is of no such run ({first_line(error)}); delete it to start afresh"
            ) from error
        if self.runtime.progress and self.ranks.is_main:
            left = "finished before; a larger --epochs goes on" if self.updates == self.total else "going on"
            say(f"{self.out}: {left} after step {self.updates} of {self.total} ({self.epoch} epochs)")

    def run(self, loader: Iterable[Batch]) -> None:
        """Train to the end of the last epoch."""
        if self.ranks.is_main:
            self.log.begin_after(self.updates)
            if self.validator is not None:
                self.validator.forget_after(self.epoch)
        self.log.clear()
        shown = self.runtime.progress and self.ranks.is_main
        with tqdm(total=self.total, initial=self.updates, unit="step", disable=not shown) as bar:
            for micro_batches in self._batches(loader):
                if self.train_step.will_compile(micro_batches):
                    bar.set_description(f"compiling for {_sizes(micro_batches)}, about a minute")
                rate = self._update(micro_batches)
                bar.set_description(refresh=False)
                stopping = self.ranks.world == 1 and self.stop.received is not None
                if stopping or self.step == 0 or self.updates % self.runtime.log_steps == 0:
                    bar.set_postfix(epoch=self.epoch, loss=f"{self._log_and_save(rate):.4f}")
                bar.update()
        self.skipped.say_how_many()

    def _batches(self, loader: Iterable[Batch]) -> Iterator[list[Batch]]:
        """This rank's micro-batches of each update that is left, from the present position on."""
        while self.epoch < self.config.epochs:
            self.order.epoch = self.epoch
            self.order.start = self.step
            rest_of_epoch = iter(loader)
            while micro_batches := list(itertools.islice(rest_of_epoch, self.config.grad_accum)):
                yield micro_batches

    def _update(self, micro_batches: list[Batch]) -> float:
        """One update and the move to the next position; returns its learning rate."""
        rate = learning_rate(self.config, self.updates, self.order.steps)
        self.train_step.objective.begin_update(self.updates, self.updates / self.total)
        losses = self.train_step.update(micro_batches, self.updates, rate)
        self.skipped.add(reason for micro_batch in micro_batches for reason in micro_batch.skipped)
        self.log.add(losses, _images_on_all_ranks(micro_batches))
        self.step += 1
        if self.step == self.order.steps:
            self.epoch += 1
            self.step = 0
        return rate

    def _log_and_save(self, rate: float) -> float:
        """Write the log, and validate and save where it is time; returns the mean loss."""
        losses = self.ranks.sum(self.log.means()).tolist()
        if self.ranks.is_main:
            self.log.write(self.epoch, self.updates, rate, losses)
        self._check(math.isfinite(losses[0]))
        stopping = self.ranks.broadcast(self.stop.received is not None, self.train_step.device)
        late = time.monotonic() - self.saved_at >= self.runtime.checkpoint_seconds
        if stopping or self.step == 0 or self.ranks.broadcast(late, self.train_step.device):
            self._check(self.train_step.is_finite())
            if self.ranks.is_main:
                self._save()
            self.ranks.barrier()
        if stopping and self.epoch < self.config.epochs:
            raise TrainingStopped(
                f"{self.out}: stopped and saved after step {self.updates}; the same command goes on",
                self.stop.received or signal.SIGTERM,  # the main rank's, where this one got none
            )
        self.log.clear()
        return float(losses[0])

    def _save(self) -> None:
        """Write a checkpoint; at an epoch's end after asking the validator."""
        if self.step == 0:
            self._validate()
            write_card(self.out)
        weights = self.train_step.export_model.state_dict()
        state = {"train_step": self.train_step.state(), "epoch": self.epoch, "step": self.step}
        save_checkpoint(self.out, weights, state)
        self.saved_at = time.monotonic()

    def _validate(self) -> None:
        """Measure the purifier if it is time, and keep its weights apart if they are the best so far."""
        last = self.epoch == self.config.epochs
        if self.validator is None or not (last or self.epoch % self.runtime.validate_epochs == 0):
            return
        model = self.train_step.export_model
        best = self.validator.best()
        defence = self.train_step.objective.defence(model)
        score = self.validator(defence, self.config.network or RIAE_NAME, self.epoch)
        model.train()  # a defence puts its network in eval mode
        self.log.curve("validation", self.updates, {"attacked": score.attacked, "clean": score.clean})
        if best is None or score.at_least(best[1]):
            config = {**read_json(self.out / CONFIG), "epoch": self.epoch}
            save_weights(self.out / BEST, model.state_dict(), config)
            write_card(self.out / BEST)

    def _check(self, finite: bool) -> None:
        """Stop if something is not finite."""
        if not finite:
            raise InputError(
                f"{self.out}: the loss is no longer finite at step {self.updates} (epoch {self.epoch}); the "
                "last good checkpoint, if there was one, is kept. Train with a lower --lr and another --out"
            )


def _sizes(micro_batches: list[Batch]) -> str:
    """The sizes of some batches, for people."""
    shapes = dict.fromkeys(tuple(micro_batch.adversarial.shape) for micro_batch in micro_batches)
    return ", ".join(f"{count} images of {height}x{width}" for count, _, height, width in shapes)


def _images_on_all_ranks(micro_batches: list[Batch]) -> int:
    """Images of a whole update, of which this rank has some: weights are parts of the global batch."""
    images = sum(len(micro_batch.adversarial) for micro_batch in micro_batches)
    return round(images / sum(micro_batch.weight for micro_batch in micro_batches))
