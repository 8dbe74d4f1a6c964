"""Events: what a worker reports while it works, to the progress bar and to the queue of tasks."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

from impure.manifests.collection.marker import Counts
from impure.manifests.collection.shard_id import ShardId


@dataclass(frozen=True, slots=True)
class ShardTask:
    """Work for one worker: one shard of a split, for some attacks.

    Attributes:
        target: Name of the target.
        split: Of the collection.
        shard: Number of the plan's shard.
        attacks: Folder names of the attacks.
        images: Planned in the shard.
        wait: Wait for shards that other processes are making, instead of leaving them for later.
    """

    target: str
    split: str
    shard: int
    attacks: tuple[str, ...]
    images: int
    wait: bool = False

    @property
    def shard_ids(self) -> list[ShardId]:
        """What it makes."""
        return [ShardId(self.target, attack, self.split, self.shard) for attack in self.attacks]


DECODE, ATTACK, VERDICT, ENCODE, WRITE, COMMIT = STAGES = (
    "decode", "attack", "verify", "encode", "write", "commit",
)  # fmt: skip

COMMITTERS = 4
"""Shards that a worker commits at once: most of that time the disk is waited for."""


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """So many images of a shard are done, all told: reporting it twice does no harm.

    Attributes:
        images: That are done.
        passes: Through the network so far, in forward passes of one image, those of a batch under way too.
        calls: The same in forward passes of one batch, however large.
    """

    shard_id: ShardId
    images: int
    passes: int = 0
    calls: int = 0


@dataclass(frozen=True, slots=True)
class StageTime:
    """A stage worked so many seconds."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ShardStarted:
    """A shard is being made; should the worker die, this shard may be why."""

    shard_id: ShardId


@dataclass(frozen=True, slots=True)
class Compiling:
    """The target is being compiled, which takes up to minutes, for an attack of this name and others."""

    attack: str


@dataclass(frozen=True, slots=True)
class ShardCommitted:
    """A shard is committed.

    Attributes:
        counts: See `marker.Counts`.
        resumed: It was there already.
    """

    shard_id: ShardId
    counts: Counts
    seconds: float
    resumed: bool


@dataclass(frozen=True, slots=True)
class ShardFailed:
    """A shard could not be made this time."""

    shard_id: ShardId
    reason: str


@dataclass(frozen=True, slots=True)
class ShardLocked:
    """Another living process is making this shard."""

    shard_id: ShardId


@dataclass(frozen=True, slots=True)
class TaskFinished:
    """Every shard of a task was reported as `ShardCommitted`, `ShardFailed` or `ShardLocked`."""

    task: ShardTask


Event = (
    ShardProgress
    | StageTime
    | ShardStarted
    | Compiling
    | ShardCommitted
    | ShardFailed
    | ShardLocked
    | TaskFinished
)
Emit = Callable[[Event], Any]
"""Takes events; safe to call from several threads."""


class EventBuffer:
    """Keeps events to be sent on together: times add up, and of a shard's progress the last report stays."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._events: list[Event] = []
        self._seconds: dict[str, float] = defaultdict(float)
        self._progress: dict[ShardId, ShardProgress] = {}

    def __call__(self, event: Event) -> None:
        """Keep an event; safe to call from several threads."""
        with self._lock:
            match event:
                case StageTime():
                    self._seconds[event.stage] += event.seconds
                case ShardProgress():
                    self._progress[event.shard_id] = event
                case _:
                    self._events.append(event)

    def __iter__(self) -> Iterator[Event]:
        """What was reported; how a shard ended comes after how far it got."""
        yield from (StageTime(stage, seconds) for stage, seconds in self._seconds.items())
        yield from self._progress.values()
        yield from self._events


@contextmanager
def timed(emit: Emit, stage: str) -> Iterator[None]:
    """Report how long a block took."""
    started_at = time.perf_counter()
    try:
        yield
    finally:
        emit(StageTime(stage, time.perf_counter() - started_at))
