"""The progress bar of a run: images, shards, and which stage holds the others up."""

import sys
import time
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from tqdm import tqdm

from impure.manifests.collection.shard_id import ShardId
from impure.pipeline.generation.events import (
    ATTACK,
    DECODE,
    ENCODE,
    STAGES,
    VERDICT,
    Event,
    ShardCommitted,
    ShardFailed,
    ShardProgress,
    StageTime,
)


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
    """A bar on standard error, fed with events, one at a time.

    Args:
        images: Images in all, each counted once for each attack; None where that is not known.
        shards: Shards in all.
        workers: How many attack at once.
        threads: Of all their pools, which decode and encode.
    """

    def __init__(self, images: int | None, shards: int, workers: int, threads: int) -> None:
        self._out = _UnbrokenStream(sys.stderr)
        self._bar = tqdm(total=images, unit=" images", dynamic_ncols=True, file=self._out)
        self._shards = shards
        self._parallel = dict.fromkeys(STAGES, workers) | {DECODE: threads, ENCODE: threads}
        self._images: Counter[ShardId] = Counter()
        self._committed: set[ShardId] = set()
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._started_at = time.perf_counter()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case ShardProgress():
                self._advance(event.shard_id, event.images)
            case StageTime():
                self._seconds[event.stage] += event.seconds
            case ShardCommitted():
                self._committed.add(event.shard_id)
            case ShardFailed():
                self._advance(event.shard_id, 0)
                self._bar.write(f"{event.shard_id}: {event.reason}", file=self._out)

    def _advance(self, shard_id: ShardId, images: int) -> None:
        more = images - self._images[shard_id]
        self._images[shard_id] = images
        self._bar.set_postfix_str(self.summary(), refresh=False)
        self._bar.update(more)

    def busy(self) -> dict[str, float]:
        """Share of the time that each stage was at work, by stage; 1 is all of its threads."""
        elapsed = max(time.perf_counter() - self._started_at, 1e-9)
        return {stage: spent / elapsed / self._parallel[stage] for stage, spent in self._seconds.items()}

    def limit(self) -> str:
        """The stage that holds the others up: the busiest. Attack and verdict take turns on the device."""
        busy = self.busy()
        together = busy | {ATTACK: busy[ATTACK] + busy[VERDICT], VERDICT: 0.0}
        return max(together, key=together.__getitem__)

    def summary(self) -> str:
        """Shards and stages in one line."""
        shares = " ".join(f"{stage} {share:.0%}" for stage, share in self.busy().items())
        return f"{len(self._committed)}/{self._shards} shards, {shares}, limited by {self.limit()}"

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.set_postfix_str(self.summary())
        self._bar.close()
