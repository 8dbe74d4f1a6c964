"""Where the time of an update goes: the costliest kernels, and a trace of some updates for Perfetto."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from impure.manifests.base.files import writing
from impure.purifier.data.dataset import Batch
from impure.purifier.training.data_source import BatchOrder, DataSource, open_loader
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.objectives.open_objective import open_objective
from impure.purifier.training.runtime_options import RuntimeOptions
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.train_step import TrainStep

WARM_UP = 3  # updates: memory is laid out, and the network compiled
TIMED = 5  # updates without the profiler, which slows them down
RECORDED = 2  # updates in the trace
SHOWN = 20  # rows of a table
_NO_OPERATIONS = ("Command Buffer Full", "Activity Buffer Request", "Buffer Flush")  # the profiler's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one kernel or operation costs in an update; `share` is of all of its kind."""

    name: str
    calls: float
    milliseconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateProfile:
    """Where the time of an update goes.

    Attributes:
        milliseconds: Of an update, measured without the profiler.
        images_per_second: On all ranks.
        waiting: Share of that time in which the process waited for data.
        busy: Share of that time that kernels on the GPU take; None on a CPU.
        kernels: The costliest on the GPU; none on a CPU.
        operations: PyTorch's, the costliest first: by their kernels' time, on a CPU by their own.
    """

    milliseconds: float
    images_per_second: float
    waiting: float
    busy: float | None
    kernels: tuple[Cost, ...]
    operations: tuple[Cost, ...]


def profile_updates(
    config: TrainConfig,
    data_source: DataSource,
    features: nn.Module | None,
    trace: Path,
    device: torch.device,
    *,
    runtime: RuntimeOptions,
    ranks: Ranks,
    init: Path | None = None,
    classifiers: Mapping[str, nn.Module] | None = None,
) -> UpdateProfile:
    """Profile some updates of a run that is not kept; the other arguments are those of `trainer.train`.

    The main rank writes to `trace` what happened when, for ui.perfetto.dev; packed if its name ends in .gz.

    Raises:
        InputError: As `train`, as far as that shows in the first updates.
        WriteError: The trace cannot be written.
    """
    objective = open_objective(config, features, classifiers)
    if ranks.is_main:
        with writing(trace):
            trace.parent.mkdir(parents=True, exist_ok=True)
            trace.touch()
    order = data_source.order(config, ranks, objective.multiple)
    if init is not None:
        objective.begin_with(init)
    train_step = TrainStep(config, objective, device, ranks)
    with closing(open_loader(data_source, order, device, runtime)) as loader:
        updates = _Updates(train_step, _endless(loader, order, config.grad_accum))
        updates.take(WARM_UP)
        images, seconds, waited = updates.take(TIMED)
        profiler = _recorded(updates)
    if ranks.is_main:
        with writing(trace, also=(RuntimeError,)):
            profiler.export_chrome_trace(str(trace))
    kernels, operations = _costs(profiler, device)
    busy = sum(cost.milliseconds for cost in kernels) * TIMED / 1000 / seconds
    return UpdateProfile(
        milliseconds=1000 * seconds / TIMED,
        images_per_second=images / seconds,
        waiting=waited / seconds,
        busy=busy if device.type == "cuda" else None,
        kernels=kernels[:SHOWN],
        operations=operations[:SHOWN],
    )


class _Updates:
    """Updates one after the other."""

    def __init__(self, train_step: TrainStep, batches: Iterator[list[Batch]]) -> None:
        self._train_step = train_step
        self._batches = batches
        self._taken = 0

    def take(self, number: int) -> tuple[float, float, float]:
        """Take some updates; returns images on all ranks, seconds, and seconds of waiting for data."""
        self._synchronize()
        started_at = time.perf_counter()
        images = waited = 0.0
        for _ in range(number):
            asked_at = time.perf_counter()
            micro_batches = next(self._batches)
            waited += time.perf_counter() - asked_at
            weight = sum(micro_batch.weight for micro_batch in micro_batches)
            images += sum(len(micro_batch.adversarial) for micro_batch in micro_batches) / weight
            self._train_step.update(micro_batches, self._taken, self._train_step.config.learning_rate)
            self._taken += 1
        self._synchronize()
        return images, time.perf_counter() - started_at, waited

    def _synchronize(self) -> None:
        if self._train_step.device.type == "cuda":
            torch.cuda.synchronize(self._train_step.device)


def _endless(loader: Iterable[Batch], order: BatchOrder, grad_accum: int) -> Iterator[list[Batch]]:
    """The micro-batches of each update, epoch after epoch."""
    for order.epoch in count():
        order.start = 0
        epoch = iter(loader)
        while micro_batches := list(islice(epoch, grad_accum)):
            yield micro_batches


def _recorded(updates: _Updates) -> Any:
    """A profiler (torch.profiler.profile) that has seen updates; it is slow at first: one is thrown away."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    for number in (1, RECORDED):
        with profile(activities=activities, acc_events=True) as profiler:  # else it warns
            updates.take(number)
    return profiler


def _costs(profiler: Any, device: torch.device) -> tuple[tuple[Cost, ...], tuple[Cost, ...]]:
    """Costs of kernels on the GPU, and of operations."""
    events = [event for event in profiler.key_averages() if not event.is_user_annotation]
    on_cpu = [event for event in events if event.device_type.name == "CPU"]
    operations = [event for event in on_cpu if event.key not in _NO_OPERATIONS]
    if device.type != "cuda":
        return (), _ranked(operations, "self_cpu_time_total")
    kernels = [event for event in events if event.device_type.name == "CUDA"]
    return _ranked(kernels, "self_device_time_total"), _ranked(operations, "self_device_time_total")


def _ranked(events: list[FunctionEventAvg], field: str) -> tuple[Cost, ...]:
    """Costs in an update, the largest first."""
    microseconds = {event.key: float(getattr(event, field)) for event in events}
    total = sum(microseconds.values()) or 1.0
    return tuple(
        Cost(
            name=str(event.key),
            calls=event.count / RECORDED,
            milliseconds=microseconds[event.key] / RECORDED / 1000,
            share=microseconds[event.key] / total,
        )
        for event in sorted(events, key=lambda event: -microseconds[event.key])
        if microseconds[event.key]
    )
