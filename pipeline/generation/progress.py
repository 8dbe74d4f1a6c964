"""The progress bar of a run: time left, which stage holds the others up, the attack, images and shards."""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from threading import Event as Signal
from threading import Thread
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.generation.events import (
    ATTACK,
    COMMIT,
    COMMITTERS,
    DECODE,
    ENCODE,
    STAGES,
    VERDICT,
    WRITE,
    Compiling,
    Event,
    ShardCommitted,
    ShardFailed,
    ShardProgress,
    ShardTask,
    StageTime,
)
from impure.pipeline.generation.time_left import Costs, TimeLeft

REFRESH_SECONDS, LOG_SECONDS = 1.0, 30.0
"""How often the clock moves the bar: on a terminal, and in a file that keeps every state of it."""


class _UnbrokenStream:
    """A stream whose reader may go away: work goes on, and tqdm keeps none of its locks."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> None:
        """Write, if anybody reads."""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush, if anybody reads."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person watches."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Of the stream, for its width."""
        return self._stream.fileno()


class ProgressBar:
    """A bar on standard error, fed with events, one at a time, and moved by a clock between them.

    Args:
        tasks: What is to be done.
        costs: See `TimeLeft`.
        workers: How many attack at once.
        threads: Of all their pools, which decode and encode.

    Attributes:
        images: That are done, each counted once for each attack.
    """

    def __init__(self, tasks: Sequence[ShardTask], costs: Costs, workers: int, threads: int) -> None:
        self._out = _UnbrokenStream(sys.stderr)
        self._bar = tqdm(
            total=1.0, bar_format="{percentage:3.0f}%|{bar:10}| {desc}", dynamic_ncols=True, file=self._out
        )
        self._planned = sum(task.images * len(task.attacks) for task in tasks)
        self._shards = sum(len(task.attacks) for task in tasks)
        self._time_left = TimeLeft(tasks, costs)
        pools = {DECODE: threads, ENCODE: threads, COMMIT: workers * COMMITTERS}
        self._parallel = dict.fromkeys(STAGES, workers) | pools
        self._images: Counter[ShardId] = Counter()
        self._attack = ""
        self._committed: set[ShardId] = set()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._started_at = time.perf_counter()
        self._closed = Signal()
        self._clock = Thread(target=self._tick, daemon=True)
        self.images = 0

    def __call__(self, event: Event) -> None:
        """Take note of an event; the clock shows it."""
        self._time_left(event)
        match event:
            case ShardProgress():
                self._advance(event.shard_id, event.images)
            case StageTime():
                self._seconds[event.stage] += event.seconds
            case Compiling():
                self._attack = f"{event.attack} (compiling …)"
            case ShardCommitted():
                self._committed.add(event.shard_id)
            case ShardFailed():
                self._advance(event.shard_id, 0)
                self._bar.write(f"{event.shard_id}: {event.reason}", file=self._out)

    def _advance(self, shard_id: ShardId, images: int) -> None:
        self.images += images - self._images[shard_id]
        self._images[shard_id] = images
        self._attack = shard_id.attack

    def _tick(self) -> None:
        """Show the bar again and again."""
        while not self._closed.wait(REFRESH_SECONDS if self._out.isatty() else LOG_SECONDS):
            self._show()

    def _show(self) -> None:
        elapsed, left = self._elapsed(), self._time_left.seconds()
        done = self._planned > 0 and self.images >= self._planned
        self._bar.n = 1.0 if done else 0.0 if left is None else elapsed / (elapsed + left)
        self._bar.set_description_str(self.summary())

    def _elapsed(self) -> float:
        return max(time.perf_counter() - self._started_at, 1e-9)

    def busy(self) -> dict[str, float]:
        """Share of the time that each stage was at work, by stage; 1 is all of its threads."""
        elapsed = self._elapsed()
        return {stage: spent / elapsed / self._parallel[stage] for stage, spent in self._seconds.items()}

    def limit(self) -> str:
        """The stage that holds the others up: of the busiest threads the one that they spend most time on.

        Attack and verdict take turns on the device, decoding and encoding on the threads of a pool.
        """
        busy = self.busy()
        threads = ((ATTACK, VERDICT), (DECODE, ENCODE), (WRITE,), (COMMIT,))
        busiest = max(threads, key=lambda stages: sum(busy[stage] for stage in stages))
        return max(busiest, key=busy.__getitem__)

    def summary(self) -> str:
        """What counts most comes first: a narrow terminal cuts the end off."""
        left = self._time_left.seconds()
        clock = (
            f"{tqdm.format_interval(self._elapsed())}<{'?' if left is None else tqdm.format_interval(left)}"
        )
        shares = " ".join(f"{stage} {share:.0%}" for stage, share in self.busy().items())
        return (
            f"[{clock}] {self._attack} limited by {self.limit()}, {self.images}/{self._planned} images, "
            f"{len(self._committed)}/{self._shards} shards, {shares}"
        )

    def __enter__(self) -> "ProgressBar":
        self._show()
        self._clock.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._clock.join()
        self._show()
        self._bar.close()
