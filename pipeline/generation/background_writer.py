"""The background writer: encodes in a pool and writes in order, beside the attack, a bounded way behind."""

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

from impure.manifests.base.errors import first_line
from impure.manifests.collection.schema import Row
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.writer import Encoded, ReadBackError, ShardWriter
from impure.pipeline.generation.attack_job import ShardFacts
from impure.pipeline.generation.batch_size import is_device_lost, is_out_of_memory
from impure.pipeline.generation.events import WRITE, Emit, ShardCommitted, ShardFailed, timed

LOGGER = logging.getLogger(__name__)

MAX_WAITING = 4
"""Batches that may wait to be written; with them memory is bounded, whatever the size of a shard."""

#: What no second try will mend.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def worth_retrying(error: BaseException) -> bool:
    """Whether making the shard again in this process may help."""
    if isinstance(error, OSError):
        return error.errno not in _HOPELESS
    if isinstance(error, ReadBackError):
        return True
    return isinstance(error, RuntimeError) and not (is_out_of_memory(error) or is_device_lost(error))


def failure(shard_id: ShardId, error: BaseException) -> ShardFailed:
    """Log why a shard failed, with its traceback, and return the event that says so in a line."""
    LOGGER.error("%s failed", shard_id, exc_info=error)
    return ShardFailed(shard_id, f"{type(error).__name__}: {first_line(error)}")


class BackgroundWriter:
    """A pool that encodes and a thread that writes; steps run in the order in which they were given."""

    def __init__(self, threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads, "encode")
        self._thread = ThreadPoolExecutor(1, "write")
        self._waiting: deque[Future[None]] = deque()
        self._broken = False

    def submit(self, step: Callable[[], None]) -> None:
        """Run `step` after those before it; wait first where `MAX_WAITING` are waiting.

        Raises:
            Exception: Whatever an earlier step raised.
        """
        while len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._run, step))

    def _run(self, step: Callable[[], None]) -> None:
        """Run a step, unless one before it raised: nothing may look finished that is not."""
        if self._broken:
            return
        try:
            step()
        except BaseException:
            self._broken = True
            raise

    def flush(self) -> None:
        """Wait until nothing waits (see `submit`)."""
        while self._waiting:
            self._waiting.popleft().result()

    def close(self) -> None:
        """End both, dropping what waits."""
        self._thread.shutdown(cancel_futures=True)
        self.pool.shutdown(cancel_futures=True)


class PendingShard:
    """One shard on its way into the collection; its end is one `ShardCommitted` or one `ShardFailed`.

    Attributes:
        shard_id: Which.
        ended: Whether it is committed or has failed.
    """

    def __init__(
        self,
        shard_id: ShardId,
        shard: ShardWriter,
        resources: ExitStack,
        writer: BackgroundWriter,
        emit: Emit,
    ):
        self.shard_id = shard_id
        self._shard = shard
        self._resources = resources
        self._writer = writer
        self._emit = emit
        self._started_at = time.perf_counter()
        self.ended = False

    def add(self, batch: Sequence[Callable[[], Encoded]]) -> None:
        """Encode and append the samples of a batch."""
        futures = [self._writer.pool.submit(encode) for encode in batch]
        self._writer.submit(partial(self._try, self._append, futures))

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Add the rows of images that have no sample."""
        self._writer.submit(partial(self._try, self._shard.add_rows, rows))

    def commit(self, config: dict[str, Any], facts: ShardFacts) -> None:
        """Commit once all is written."""
        self._writer.submit(partial(self._try, self._commit, config, facts))

    def give_up(self, error: BaseException) -> None:
        """Drop the shard; it may be tried again."""
        self._writer.submit(partial(self._try, self._fail, error))

    def _try(self, step: Callable[..., None], *arguments: Any) -> None:
        """Run a step of a shard that has not failed; what no retry will mend goes on to the caller."""
        if self.ended:
            return
        try:
            step(*arguments)
        except BaseException as error:
            if not worth_retrying(error):
                self.end()
                raise
            self._fail(error)

    def _append(self, futures: Sequence[Future[Encoded]]) -> None:
        for future in futures:
            encoded = future.result()
            with timed(self._emit, WRITE):
                self._shard.add(encoded)

    def _commit(self, config: dict[str, Any], facts: ShardFacts) -> None:
        seconds = time.perf_counter() - self._started_at
        with timed(self._emit, WRITE):
            marker = self._shard.commit(config, {**facts, "seconds": round(seconds, 3)})
        self.end()
        self._emit(ShardCommitted(self.shard_id, marker["counts"], seconds, resumed=False))

    def _fail(self, error: BaseException) -> None:
        self.end()
        self._emit(failure(self.shard_id, error))

    def end(self) -> None:
        """Remove the temporary folder and release the lock."""
        self.ended = True
        self._resources.close()
