"""What a training run would be: checked as training checks it, counted, measured; nothing is written."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from impure.manifests.base.errors import WriteError
from impure.purifier.data.dataset import Batch
from impure.purifier.training.data_source import DataSource, open_loader
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.objectives.open_objective import open_objective
from impure.purifier.training.run_folder import check_run, describe_run
from impure.purifier.training.runtime_options import CacheKind, RuntimeOptions
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.train_step import TrainStep

REPEATS = 3  # of the measured update; the first is slow
ENOUGH_SECONDS = 5.0  # after which it is not repeated
CPU_IMAGES = 2  # measured on a CPU, whose time grows with their number
STATE_COPIES = 4  # of the parameters in float32: weights, gradients, AdamW's two moments


class TrainPlan(TypedDict):
    """What a run would be.

    Attributes:
        model: The preset.
        parameters: That it has.
        images_an_epoch: Pairs, or photographs.
        composition: These by target and attack.
        updates_an_epoch: Of the weights.
        epochs: In all.
        updates: In all.
        ranks: Processes.
        out: The run's folder.
        run: What the folder holds: nothing (`new`), or a run that goes on.
        seconds_an_update: Measured on this device for one rank, without decoding.
        hours: Of all updates, without decoding and validation.
        state_gib: Memory for weights, gradients, optimiser and moving average.
        peak_gib: All memory of the measured update on a GPU; None on a CPU.
        config: As `TrainConfig` has it.
    """

    model: str
    parameters: int
    images_an_epoch: int
    composition: Mapping[str, int]
    updates_an_epoch: int
    epochs: int
    updates: int
    ranks: int
    out: str
    run: str
    seconds_an_update: float
    hours: float
    state_gib: float
    peak_gib: float | None
    config: dict[str, Any]


def plan(
    config: TrainConfig,
    data_source: DataSource,
    features: nn.Module | None,
    out: Path,
    device: torch.device,
    *,
    world: int = 1,
    init: Path | None = None,
    classifiers: Mapping[str, nn.Module] | None = None,
    cache: CacheKind = "none",
) -> TrainPlan:
    """What a run would be, without beginning it; arguments as for `trainer.train`.

    Raises:
        InputError: As `train`, as far as that shows in the first update.
        WriteError: The folder cannot be written.
    """
    objective = open_objective(config, features, classifiers)
    order = data_source.order(config, Ranks(world=world), objective.multiple)
    open_loader(data_source, order, device, RuntimeOptions(cache=cache))
    begun_from = {} if init is None else objective.begin_with(init)
    state = check_run(out, describe_run(config, objective.describe(), data_source.describe(), begun_from))
    _check_writable(out)
    parameters = sum(parameter.numel() for parameter in objective.model.parameters())
    seconds = _seconds_an_update(TrainStep(config, objective, device), data_source, world)
    updates = order.steps * config.epochs
    copies = STATE_COPIES + bool(config.ema_decay)
    return {
        "model": config.preset,
        "parameters": parameters,
        "images_an_epoch": data_source.images,
        "composition": data_source.composition(),
        "updates_an_epoch": order.steps,
        "epochs": config.epochs,
        "updates": updates,
        "ranks": world,
        "out": str(out),
        "run": state,
        "seconds_an_update": _short(seconds),
        "hours": _short(seconds * updates / 3600),
        "state_gib": _short(4 * copies * parameters / 2**30),
        "peak_gib": _peak_gib(device),
        "config": asdict(config),
    }


def _check_writable(out: Path) -> None:
    """Refuse a folder that could not be made or written, without making it."""
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise WriteError(f"{out}: cannot be written ({nearest} is no writable folder); choose another --out")


def _seconds_an_update(train_step: TrainStep, data_source: DataSource, world: int) -> float:
    """How long the first update of the main rank takes; on a CPU by that of its first images."""
    config, device = train_step.config, train_step.device
    order: Iterable[Any] = data_source.order(config, Ranks(world=world), train_step.objective.multiple)
    wanted = list(islice(order, config.grad_accum))
    images = sum(len(micro_batch.indices) for micro_batch in wanted)
    if device.type == "cpu":
        wanted = [wanted[0]._replace(indices=wanted[0].indices[:CPU_IMAGES])]
    measured = sum(len(micro_batch.indices) for micro_batch in wanted)
    dataset: Any = data_source.dataset
    batches: list[Batch] = [dataset.__getitems__(micro_batch) for micro_batch in wanted]
    durations: list[float] = []
    while len(durations) < REPEATS and sum(durations) < ENOUGH_SECONDS:
        started_at = time.perf_counter()
        train_step.update(batches, 0, 0.0).tolist()  # waits for the device
        durations.append(time.perf_counter() - started_at)
    return min(durations) * images / measured


def _peak_gib(device: torch.device) -> float | None:
    """The most memory that was ever taken on a GPU; None on a CPU."""
    return _short(torch.cuda.max_memory_allocated(device) / 2**30) if device.type == "cuda" else None


def _short(value: float) -> float:
    """Three digits that count, of small numbers too."""
    return float(f"{value:.3g}")
