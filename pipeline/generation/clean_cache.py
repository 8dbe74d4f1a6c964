"""The clean images of one shard: decoded once, in a pool, then cached on the disk for every attack."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from impure.manifests.base.errors import ReadBackError
from impure.manifests.base.images import Pixels, px_sha256
from impure.manifests.collection.schema import CHANGED, FAILED, STATUS_OK, Row
from impure.manifests.collection.storage_profiles import PAIRS
from impure.pipeline.generation.attack_job import AttackJob
from impure.pipeline.generation.events import DECODE, ENCODE, Emit, timed
from impure.pipeline.sources.source import SourceImage
from impure.pipeline.targets.preprocess import load_clean

DECODE_AHEAD = 64
"""Images that are decoded before anybody asks for them."""


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """A planned image, ready to be attacked.

    Attributes:
        row: Of the plan.
        pixels: (H, W, 3).
        encoded: As it will be stored; nine attacks share one encoding. Empty where it is not stored.
        sha256: Of the pixels and the encoding, as they were decoded and encoded.
    """

    row: Row
    pixels: Pixels
    encoded: bytes
    sha256: bytes

    def check(self) -> None:
        """Make sure that the cache file gave back what went into it.

        Raises:
            ReadBackError: It did not.
        """
        if _sha256(self.pixels, self.encoded) != self.sha256:
            raise ReadBackError(
                f"{self.row['source_id']}: what was cached of it in _tmp has changed; check disk and memory"
            )


@dataclass(frozen=True, slots=True)
class _CachedImage:
    """Where in the cache file an image lies: its pixels, then its encoding."""

    row: Row
    offset: int
    shape: tuple[int, ...]
    encoded: int
    sha256: bytes


class CleanCache:
    """Hands out a shard's images by position; decodes what has not been asked for before.

    Attributes:
        lost: Rows of images that cannot be had or have changed since the plan, as far as decoded.
    """

    def __init__(
        self, job: AttackJob, rows: Sequence[Row], pool: ThreadPoolExecutor, file: IO[bytes], emit: Emit
    ):
        self._job = job
        self._pool = pool
        self._file = file
        self._emit = emit
        self._rows = iter(rows)
        self._decoding: deque[Future[PlannedImage | Row]] = deque()
        self._cached: list[_CachedImage] = []
        self._end = 0
        self.lost: list[Row] = []

    def read(self, start: int, count: int) -> list[PlannedImage]:
        """The images from position `start` on, at most `count`; none past the end."""
        while len(self._cached) < start + count and self._decode_next():
            pass
        return [self._read(image) for image in self._cached[start : start + count]]

    def _decode_next(self) -> bool:
        """Take one image from the pool; whether there was one."""
        for row in islice(self._rows, DECODE_AHEAD - len(self._decoding)):
            self._decoding.append(self._pool.submit(self._decode, row))
        if not self._decoding:
            return False
        decoded = self._decoding[0].result()
        if isinstance(decoded, PlannedImage):
            self._write(decoded)
        else:
            self.lost.append(decoded)
        self._decoding.popleft()  # last: what raises before this raises for every attack, and none loses it
        return True

    def _decode(self, row: Row) -> PlannedImage | Row:
        """Decode an image again, or say why it is lost."""
        if row["status"] != STATUS_OK:
            return row
        with timed(self._emit, DECODE):
            pixels = load_planned(self._job, row)
        if isinstance(pixels, dict):
            return pixels
        stored = self._job.storage.profile == PAIRS
        with timed(self._emit, ENCODE):
            encoded = self._job.storage.encode(pixels) if stored else b""
            return PlannedImage(row, pixels, encoded, _sha256(pixels, encoded))

    def _write(self, clean: PlannedImage) -> None:
        """Append an image to the cache file."""
        self._file.seek(self._end)
        size = self._file.write(clean.pixels.tobytes() + clean.encoded)
        self._file.flush()
        shape, encoded = clean.pixels.shape, len(clean.encoded)
        self._cached.append(_CachedImage(clean.row, self._end, shape, encoded, clean.sha256))
        self._end += size

    def _read(self, cached: _CachedImage) -> PlannedImage:
        """Read an image from the cache file."""
        size = int(np.prod(cached.shape))
        data = os.pread(self._file.fileno(), size + cached.encoded, cached.offset)
        pixels = np.frombuffer(data, np.uint8, size).reshape(cached.shape)
        return PlannedImage(cached.row, pixels, data[size:], cached.sha256)


def _sha256(pixels: Pixels, encoded: bytes) -> bytes:
    """Of an image's pixels and its encoding, one after the other."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).ravel().data)
    digest.update(encoded)
    return digest.digest()


@contextmanager
def open_clean_cache(
    job: AttackJob, rows: Sequence[Row], pool: ThreadPoolExecutor, emit: Emit
) -> Iterator[CleanCache]:
    """The images of a shard, for all attacks on it; the cache file goes with the block or the process."""
    folder = job.collection.root / "_tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=Path(folder)) as file:
        yield CleanCache(job, rows, pool, file, emit)


def load_planned(job: AttackJob, row: Row) -> Pixels | Row:
    """Decode a planned image again, or say why it cannot be had: a row with another status."""
    clean = load_clean(job.source, SourceImage(row["source_id"], row["wnid"]), job.target.card)
    if clean.pixels is None:
        return {**row, "status": FAILED, "error": clean.error}
    if px_sha256(clean.pixels) != row["clean_px_sha256"]:
        return {**row, "status": CHANGED, "error": "other pixels than when the plan was drawn"}
    return clean.pixels


def lost_images(job: AttackJob, rows: Sequence[Row], pool: ThreadPoolExecutor) -> dict[str, str]:
    """Why planned images of some rows cannot be had today, by source id."""
    planned = [row for row in rows if row["status"] == STATUS_OK]

    def error(row: Row) -> str:
        loaded = load_planned(job, row)
        return loaded["error"] if isinstance(loaded, dict) else ""

    errors = {row["source_id"]: why for row, why in zip(planned, pool.map(error, planned), strict=True)}
    return {source_id: why for source_id, why in errors.items() if why}
