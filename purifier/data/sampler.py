"""Which pairs go into which update, on which rank: it depends on (seed, epoch) alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from impure.manifests.base.errors import InputError


class MicroBatch(NamedTuple):
    """Some pairs of an update's global batch: what one rank computes at a time.

    Attributes:
        indices: Of the pairs.
        weight: Their number divided by the global batch's: so weighted, the gradients of all micro-batches of
            all ranks sum to those of the global batch.
    """

    indices: list[int]
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSplit:
    """How the global batch of an update is split among ranks, and on each rank into micro-batches.

    Attributes:
        batch_size: Global batch size: images in an update at most, over all ranks and micro-batches.
        rank: Of this process, from 0.
        world: How many ranks there are.
        grad_accum: Micro-batches of a rank whose gradients one update adds up.

    Raises:
        InputError: One of them is impossible, or the batch too small to be split so.
    """

    batch_size: int
    rank: int = 0
    world: int = 1
    grad_accum: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "world", "grad_accum"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.rank < self.world:
            raise InputError(f"rank is {self.rank}; of {self.world} ranks it must be 0 to {self.world - 1}")
        self._check(self.batch_size, f"batch size {self.batch_size}")

    def batches(self, count: int, what: str) -> NDArray[np.int64]:
        """Where global batches begin and end (batches + 1,): as few as can be, of nearly equal length.

        Args:
            count: Of the images, at least 1.
            what: The images, for the error message.

        Raises:
            InputError: The batches are too small to be split.
        """
        cuts = _cuts(count, -(-count // self.batch_size))
        least = int(np.diff(cuts).min())
        self._check(least, f"a batch of {least} out of {count} {what} (batch size {self.batch_size})")
        return cuts

    def micro_batches(self, batch: NDArray[np.int64]) -> Iterator[MicroBatch]:
        """This rank's micro-batches of a global batch, in order."""
        first = self.rank * self.grad_accum
        cuts = _cuts(len(batch), self.world * self.grad_accum)[first : first + self.grad_accum + 1]
        for start, stop in pairwise(cuts.tolist()):
            yield MicroBatch(batch[start:stop].tolist(), (stop - start) / len(batch))

    def _check(self, images: int, what: str) -> None:
        """Refuse a batch that leaves a rank or a micro-batch without an image."""
        if images < self.world * self.grad_accum:
            raise InputError(
                f"{what} cannot be divided: more ranks than images, {self.world} ranks x {self.grad_accum} "
                "accumulation steps; use fewer ranks or steps, or another batch size"
            )


class EpochSampler(Sampler[MicroBatch]):
    """Micro-batches of one image size in an order that depends on (seed, epoch) alone; every pair once.

    Set `epoch` and `start` before iterating; `start` updates are passed over, for resuming inside an epoch.

    Attributes:
        steps: Updates in a whole epoch.
        epoch: From 0.
        start: Updates to pass over.
    """

    def __init__(
        self, sizes: ArrayLike, clean_ids: ArrayLike, split: BatchSplit, *, variants: int, seed: int
    ) -> None:
        """Sort the pairs by size.

        Args:
            sizes: Height and width of each pair, pixels (N, 2).
            clean_ids: Number of each pair's clean image (N,).
            split: How batches are split.
            variants: Most pairs of one clean image that stand together; 1 mixes pairs one by one.
            seed: Of the order.

        Raises:
            InputError: Some batch has no image for some rank or micro-batch; or `variants` is below 1.
        """
        if variants < 1:
            raise InputError(f"variants is {variants}; it must be at least 1")
        self._clean_ids = np.asarray(clean_ids)
        self._split = split
        self._variants = variants
        self._seed = seed
        sizes, size_of_pair = np.unique(np.asarray(sizes) @ (1 << 16, 1), return_inverse=True)
        self._pairs_by_size = [np.flatnonzero(size_of_pair == number) for number in range(len(sizes))]
        self._cuts = [
            split.batches(len(pairs), f"pairs of {size >> 16}x{size & 0xFFFF} pixels")
            for size, pairs in zip(sizes.tolist(), self._pairs_by_size, strict=True)
        ]
        self.steps = sum(len(cuts) - 1 for cuts in self._cuts)
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return (self.steps - self.start) * self._split.grad_accum

    def __iter__(self) -> Iterator[MicroBatch]:
        order = np.random.default_rng([self._seed, self.epoch])
        batches = [
            batch
            for pairs, cuts in zip(self._pairs_by_size, self._cuts, strict=True)
            for batch in np.split(self._shuffled(pairs, order), cuts[1:-1])
        ]
        turns = order.permutation(len(batches))[self.start :]
        return (micro_batch for turn in turns for micro_batch in self._split.micro_batches(batches[turn]))

    def _shuffled(self, pairs: NDArray[np.int64], order: np.random.Generator) -> NDArray[np.int64]:
        """Pairs in random groups of up to `variants` of one clean image, the groups in random order."""
        pairs = order.permutation(pairs)
        pairs = pairs[np.argsort(self._clean_ids[pairs], kind="stable")]
        numbers = self._clean_ids[pairs]
        first = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))  # of each image
        within = np.arange(len(pairs)) - np.repeat(first, np.diff(first, append=len(pairs)))
        group = np.cumsum(within % self._variants == 0) - 1
        place = order.permutation(group[-1] + 1)
        shuffled: NDArray[np.int64] = pairs[np.argsort(place[group], kind="stable")]
        return shuffled


def _cuts(length: int, pieces: int) -> NDArray[np.int64]:
    """Where nearly equal pieces of so many images begin and end (pieces + 1,)."""
    return np.arange(pieces + 1, dtype=np.int64) * length // pieces
