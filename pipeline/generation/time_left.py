"""Time left: counts passes through the network while an attack runs, and tells from them when a run ends."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Lock

from torch import Tensor

from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.generation.events import (
    ATTACK,
    Emit,
    Event,
    ShardCommitted,
    ShardFailed,
    ShardProgress,
    ShardStarted,
    ShardTask,
    StageTime,
)

BACKWARD = 1
"""What a backward pass costs, in forward passes: that of the images alone, as weights are frozen."""

CHECKS = 2
"""Forward passes after an attack: the threat model's, and the verdict on the stored bytes."""

PRIOR = 0.2
"""So many images' measurements outweigh what was foretold of them."""

REPORT_SECONDS = 0.5
"""Between two reports from inside a batch."""


class PassMeter:
    """Counts the passes that the images of one shard take, and reports them, inside a batch too.

    Args:
        shard_id: Which shard is attacked.
        emit: Gets the reports.

    Attributes:
        images: Of the shard that are done.
    """

    def __init__(self, shard_id: ShardId, emit: Emit) -> None:
        self.emit = emit
        self.images = 0
        self._shard_id = shard_id
        self._passes = self._calls = 0
        self._since = 0.0
        self._lock = Lock()

    def metered(self, model: Model) -> Model:
        """The same model; each pass through it counts. Backward passes may run in another thread."""

        def run(images: Tensor) -> Tensor:
            self._count(len(images), 1)
            if images.requires_grad:
                images.register_hook(lambda gradient: self._count(len(gradient), BACKWARD))
            return model(images)

        return run

    @contextmanager
    def attack(self) -> Iterator[None]:
        """The attack on a batch: how long it takes is reported while it runs."""
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self._report()

    def finish(self, images: int) -> None:
        """So many more images are done."""
        self.images += images
        self._passes += CHECKS * images
        self._calls += CHECKS if images else 0
        self._tell()

    def _count(self, images: int, cost: int) -> None:
        with self._lock:
            self._passes += cost * images
            self._calls += cost
            if time.perf_counter() - self._since >= REPORT_SECONDS:
                self._report()

    def _report(self) -> None:
        now = time.perf_counter()
        self.emit(StageTime(ATTACK, now - self._since))
        self._tell()
        self._since = now

    def _tell(self) -> None:
        self.emit(ShardProgress(self._shard_id, self.images, self._passes, self._calls))


@dataclass(frozen=True, slots=True)
class Costs:
    """What is known of a run's costs before it begins.

    Attributes:
        passes: Of an image, by attack.
        batch_size: Images attacked at once.
        overhead: What a pass of a batch takes beside its images, as if so many images more were in it.
    """

    passes: Mapping[str, float]
    batch_size: int = 1
    overhead: float = 0.0

    def full_cost(self, images: int) -> float:
        """So many images of one shard with the overhead of their batches, in images."""
        return images + self.overhead * math.ceil(images / self.batch_size)


@dataclass(slots=True)
class _Work:
    """What went into some images.

    Attributes:
        images: That are done; like passes, with the overhead of batches.
        settled: Passes of these.
        passes: Of all, those of the batch under way too.
        seconds: Of workers.
    """

    images: float = 0.0
    settled: float = 0.0
    passes: float = 0.0
    seconds: float = 0.0

    def add(self, other: "_Work", sign: int = 1) -> None:
        """Add, or with -1 take away, another one's numbers."""
        self.images += sign * other.images
        self.settled += sign * other.settled
        self.passes += sign * other.passes
        self.seconds += sign * other.seconds

    def done(self, cost: float) -> float:
        """Images that are done, the batch under way in part, where one takes `cost` passes."""
        return self.images + (self.passes - self.settled) / cost


class TimeLeft:
    """Foretells the end of a run from its events: the images left of each attack times what one took so far.

    Where an attack has not begun its passes are those foretold, and a pass takes as long as the others' did.

    Args:
        tasks: What is to be done.
        costs: What is known of it.
    """

    def __init__(self, tasks: Sequence[ShardTask], costs: Costs) -> None:
        self._costs = costs
        self._planned = dict.fromkeys(costs.passes, 0.0)
        for task in tasks:
            for attack in task.attacks:
                self._planned[attack] = self._planned.get(attack, 0.0) + costs.full_cost(task.images)
        self._likely = {attack: costs.passes.get(attack, 1.0) for attack in self._planned}
        self._of_attack = {attack: _Work() for attack in self._planned}
        self._of_shard: dict[ShardId, _Work] = {}
        self._started: dict[ShardId, float] = {}
        self._begun_at = math.inf
        self._end_at: float | None = None

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case ShardStarted():
                self._started[event.shard_id] = self._now()
                self._begun_at = min(self._begun_at, self._now())
            case ShardProgress():
                self._advance(event)
            case ShardCommitted():
                self._commit(event)
            case ShardFailed():
                self._replace(event.shard_id, _Work())
        self._foretell()

    def seconds(self) -> float | None:
        """Until the end; None where nothing is known yet."""
        return None if self._end_at is None else max(self._end_at - self._now(), 0.0)

    def _now(self) -> float:
        return time.perf_counter()

    def _advance(self, event: ShardProgress) -> None:
        """A shard is as far as it says."""
        if event.shard_id not in self._started:
            return
        passes = event.passes + self._costs.overhead * event.calls
        work = replace(self._of_shard.get(event.shard_id, _Work()), passes=passes)
        work.seconds = self._now() - self._started[event.shard_id]
        images = self._costs.full_cost(event.images)
        if images > work.images:
            work.images, work.settled = images, passes
        self._replace(event.shard_id, work)

    def _commit(self, event: ShardCommitted) -> None:
        """A shard is done; one that was there already, or that another process made, was no work."""
        shard_id, attack = event.shard_id, event.shard_id.attack
        counts = event.counts
        images = self._costs.full_cost(counts.get("planned", 0) + counts.get("unreadable", 0))
        if self._started.pop(shard_id, None) is None:
            self._planned[attack] -= 0.0 if shard_id in self._of_shard else images
            self._of_shard.setdefault(shard_id, _Work())
        elif shard_id not in self._of_shard:  # told only when it was done, by a worker elsewhere
            passes = images * self._passes_of_an_image(attack)
            self._replace(shard_id, _Work(images, passes, passes, event.seconds))
            self._begun_at = min(self._begun_at, self._now() - event.seconds)

    def _replace(self, shard_id: ShardId, work: _Work) -> None:
        """Count a shard's work in place of what was counted of it before."""
        total = self._of_attack[shard_id.attack]
        total.add(self._of_shard.get(shard_id, _Work()), -1)
        total.add(work)
        self._of_shard[shard_id] = work

    def _foretell(self) -> None:
        """Work out the end anew."""
        spent = sum(work.seconds for work in self._of_attack.values())
        if not spent:
            return
        elapsed = self._now() - self._begun_at
        self._end_at = self._now() + self._worker_seconds_left(spent) * elapsed / spent

    def _worker_seconds_left(self, spent: float) -> float:
        """Of all attacks; what was foretold of an attack counts as `PRIOR` images of it."""
        cost = {attack: self._passes_of_an_image(attack) for attack in self._planned}
        done = {attack: work.done(cost[attack]) for attack, work in self._of_attack.items()}
        seconds_of_a_pass = spent / (sum(done[attack] * cost[attack] for attack in done) or 1.0)
        left = 0.0
        for attack, work in self._of_attack.items():
            prior = PRIOR * cost[attack] * seconds_of_a_pass
            of_an_image = (work.seconds + prior) / (done[attack] + PRIOR)
            left += max(self._planned[attack] - done[attack], 0.0) * of_an_image
        return left

    def _passes_of_an_image(self, attack: str) -> float:
        """As measured, else as foretold."""
        work = self._of_attack[attack]
        return work.settled / work.images if work.images and work.settled else self._likely[attack]
