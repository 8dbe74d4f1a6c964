"""The background writer: encodes in a pool, writes in order, commits beside it, not far behind the attack."""

import errno
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from typing import Any

from impure.manifests.base.errors import ReadBackError, first_line
from impure.manifests.collection.schema import Row
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.writer import EmptyShardError, Encoded, ShardWriter
from impure.pipeline.generation.attack_job import ShardFacts
from impure.pipeline.generation.batch_size import is_device_lost, is_out_of_memory
from impure.pipeline.generation.events import (
    COMMIT,
    COMMITTERS,
    WRITE,
    Emit,
    ShardCommitted,
    ShardFailed,
    timed,
)

LOGGER = logging.getLogger(__name__)

MAX_WAITING = 4
"""Batches that may wait to be written; with them memory is bounded, whatever the size of a shard."""

#: What no second try will mend.
_HOPELESS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def worth_retrying(error: BaseException) -> bool:
    """Whether making the shard again in this process may help."""
    if isinstance(error, OSError):
        return error.errno not in _HOPELESS
    if isinstance(error, ReadBackError | EmptyShardError):
        return True
    return isinstance(error, RuntimeError) and not (is_out_of_memory(error) or is_device_lost(error))


def failure(shard_id: ShardId, error: BaseException) -> ShardFailed:
    """Log why a shard failed, with its traceback, and return the event that says so in a line."""
    LOGGER.error("%s failed", shard_id, exc_info=error)
    return ShardFailed(shard_id, f"{type(error).__name__}: {first_line(error)}")


class BackgroundWriter:
    """A pool that encodes, a thread that writes, step by step in the order given, and a pool that commits."""

    def __init__(self, threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads, "encode")
        self._writing = ThreadPoolExecutor(1, "write")
        self._committing = ThreadPoolExecutor(COMMITTERS, "commit")
        self._writes: deque[Future[None]] = deque()
        self._commits: deque[Future[None]] = deque()
        self._broken = False

    def write(self, step: Callable[[], None]) -> None:
        """Run `step` after the writes before it; wait first where `MAX_WAITING` are waiting.

        Raises:
            Exception: Whatever an earlier step raised.
        """
        _wait_for_all_but(MAX_WAITING - 1, self._writes)
        self._writes.append(self._writing.submit(self._run, (), step))

    def commit(self, step: Callable[[], None]) -> None:
        """Run `step` after the writes before it, beside those that follow; waits and raises as `write`."""
        _wait_for_all_but(COMMITTERS - 1, self._commits)
        self._commits.append(self._committing.submit(self._run, tuple(self._writes), step))

    def after_commits(self, step: Callable[[], None]) -> None:
        """Run `step` after all that was given before it."""
        before = (*self._writes, *self._commits)
        self._commits.append(self._committing.submit(self._run, before, step))

    def _run(self, before: Sequence[Future[None]], step: Callable[[], None]) -> None:
        """Run a step after others, unless any before it raised: nothing may look finished that is not."""
        wait(before)
        if self._broken or any(future.cancelled() for future in before):
            return
        try:
            step()
        except BaseException:  # a kill too: it is raised again, and only noted here
            self._broken = True
            raise

    def flush(self) -> None:
        """Wait until nothing waits (see `write`)."""
        _wait_for_all_but(0, self._writes)
        _wait_for_all_but(0, self._commits)

    def close(self) -> None:
        """End all threads, dropping what waits."""
        for pool in (self._writing, self._committing, self.pool):
            pool.shutdown(cancel_futures=True)


def _wait_for_all_but(count: int, futures: deque[Future[None]]) -> None:
    """Wait for the oldest futures; raises what they raised."""
    while len(futures) > count:
        futures.popleft().result()


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
        self._writer.write(partial(self._try, self._append, futures))

    def add_rows(self, rows: Sequence[Row]) -> None:
        """Add the rows of images that have no sample."""
        self._writer.write(partial(self._try, self._shard.add_rows, rows))

    def commit(self, config: dict[str, Any], facts: ShardFacts) -> None:
        """Commit once all is written."""
        self._writer.commit(partial(self._try, self._commit, config, facts))

    def give_up(self, error: BaseException) -> None:
        """Drop the shard; it may be tried again."""
        self._writer.write(partial(self._try, self._fail, error))

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
        with timed(self._emit, COMMIT):
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
