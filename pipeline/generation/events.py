"""What a run reports while it works: to the live view, and from a worker to whoever gave it the work."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

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


DECODE, ATTACK, VERDICT, ENCODE, WRITE = STAGES = ("decode", "attack", "verify", "encode", "write")


@dataclass(frozen=True, slots=True)
class Advanced:
    """So many images of a shard are done, all told: reporting it twice does no harm."""

    shard_id: ShardId
    images: int


@dataclass(frozen=True, slots=True)
class Busy:
    """A stage worked so many seconds."""

    stage: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Started:
    """A shard is being made; should the worker die, it is the first suspect."""

    shard_id: ShardId


@dataclass(frozen=True, slots=True)
class Made:
    """A shard is committed.

    Attributes:
        counts: See `status.count`.
        resumed: It was there already.
    """

    shard_id: ShardId
    counts: dict[str, int]
    seconds: float
    resumed: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A shard could not be made this time."""

    shard_id: ShardId
    reason: str


@dataclass(frozen=True, slots=True)
class Taken:
    """Another living process is making this shard."""

    shard_id: ShardId


@dataclass(frozen=True, slots=True)
class Settled:
    """Every unit of a task was reported as `Made`, `Failed` or `Taken`."""

    task: ShardTask


Event = Advanced | Busy | Started | Made | Failed | Taken | Settled
Emit = Callable[[Event], Any]
"""Takes events; safe to call from several threads."""


class EventBuffer:
    """Takes events to be sent on together: times add up, and of progress the last word is kept."""

    def __init__(self) -> None:
        self._lock, self._events = Lock(), list[Event]()
        self._busy, self._advanced = Counter[str](), dict[ShardId, Advanced]()

    def __call__(self, event: Event) -> None:
        """Note an event; safe to call from several threads."""
        with self._lock:
            match event:
                case Busy():
                    self._busy[event.stage] += event.seconds  # type: ignore[assignment]
                case Advanced():
                    self._advanced[event.shard_id] = event
                case _:
                    self._events.append(event)

    def __iter__(self) -> Iterator[Event]:
        """What was noted; how a shard ended comes after how far it got."""
        yield from (Busy(stage, seconds) for stage, seconds in self._busy.items())
        yield from self._advanced.values()
        yield from self._events


@contextmanager
def timed(emit: Emit, stage: str) -> Iterator[None]:
    """Report how long a block took."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        emit(Busy(stage, time.perf_counter() - begun))
