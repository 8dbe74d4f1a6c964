"""Batches of stored pairs, and the worker processes that make them."""

import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from impure.manifests.base.errors import ImpureError, InputError, first_line
from impure.manifests.base.logs import LOGGER
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.data.pair_reader import CACHE_BYTES, PairReader
from impure.purifier.data.pairs import Pairs, list_pairs
from impure.purifier.data.sampler import MicroBatch
from impure.purifier.data.shard_index import ShardIndices


class Batch(NamedTuple):
    """Images of one size, uint8 RGB.

    Attributes:
        adversarial: (B, 3, H, W).
        clean: Each distinct clean image once (U, 3, H, W).
        clean_row: Row of `clean` that belongs to each adversarial image (B,), int64.
        weight: Number of these pairs divided by that of the update's global batch.
        labels: True classes (B,), int64; -1 of photographs without.
        skipped: Why images that belong here could not be read; others stand in for them.
    """

    adversarial: Tensor
    clean: Tensor
    clean_row: Tensor
    weight: float
    labels: Tensor
    skipped: tuple[str, ...] = ()


class PairDataset(Dataset[Any]):
    """Training pairs: the attacked ones, then each distinct clean image of each target with itself.

    Attributes:
        pairs: What the elements are made of, in order.
        clean_ids: Number of each pair's clean image (N,), int64: equal where pixels and size are.
        labels: True class of each pair (N,), int64.
    """

    def __init__(
        self,
        shards: Sequence[CommittedShard],
        *,
        attacked_pairs: bool = True,
        clean_pairs: bool = True,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """List what is there (see `list_pairs`); images are decoded when they are asked for.

        Args:
            shards: The shards.
            attacked_pairs: Take the attacked images, each with its clean one.
            clean_pairs: Take each distinct clean image of each target with itself.
            cache_bytes: Of decoded images to keep.

        Raises:
            InputError: A shard is inconsistent, or there is no pair at all.
        """
        indices = ShardIndices()
        stored = list_pairs(shards, indices)
        self.pairs: Pairs = stored.attacked() if attacked_pairs else stored.take(np.empty(0, np.int64))
        self._attacked = len(self.pairs)
        if clean_pairs:
            self.pairs += stored.distinct_clean()
        if not self.pairs:
            raise InputError("the chosen shards hold no sample to train on")
        self.clean_ids = self.pairs.clean_ids
        self.labels = self.pairs.labels
        self._reader = PairReader(cache_bytes, indices)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Height and width of every pair, pixels (N, 2)."""
        return self.pairs.sizes

    @property
    def image_ids(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Number of every pair's adversarial and of its clean image, (N,) each.

        First come the attacked images, then each distinct clean one.
        """
        clean = self.clean_ids + self._attacked
        number = np.arange(len(self))
        return np.where(number < self._attacked, number, clean), clean

    @property
    def images(self) -> int:
        """How many images there are."""
        return self._attacked + int(self.clean_ids.max()) + 1

    @property
    def image_bytes(self) -> int:
        """What all images take when they are decoded."""
        sizes = 3 * self.sizes.astype(np.int64).prod(1)
        first = np.unique(self.clean_ids, return_index=True)[1]
        return int(sizes[: self._attacked].sum() + sizes[first].sum())

    def composition(self) -> dict[str, int]:
        """Numbers of pairs by `target/attack`; those of `target/clean` are of an image with itself."""
        counts: Counter[str] = Counter()
        for shard, count in self.pairs[: self._attacked].count_by_shard():
            counts[f"{shard.shard_id.target}/{shard.shard_id.attack}"] += count
        for shard, count in self.pairs[self._attacked :].count_by_shard():
            counts[f"{shard.shard_id.target}/{CLEAN}"] += count
        return dict(sorted(counts.items()))

    def __getitem__(self, index: int) -> Tensor:
        """One pair: the adversarial image, then the clean one, uint8 RGB (2, 3, H, W).

        Raises:
            InputError: See `PairReader.read`.
        """
        at = range(len(self))[index]  # minds negative indices and the end
        return torch.stack(self._pair(at, None))

    def __getitems__(self, micro_batch: MicroBatch) -> Batch:
        """A batch of pairs of one size; each distinct clean image is decoded once.

        Raises:
            InputError: See `PairReader.read`.
        """
        numbers = self.clean_ids[micro_batch.indices].tolist()
        clean: dict[int, Tensor] = {}
        adversarial = []
        for index, number in zip(micro_batch.indices, numbers, strict=True):
            attack, clean[number] = self._pair(index, clean.get(number))
            adversarial.append(attack)
        rows = numbered_rows(numbers)[1]
        labels = torch.from_numpy(self.labels[micro_batch.indices])
        originals = torch.stack(list(clean.values()))
        return Batch(torch.stack(adversarial), originals, rows, micro_batch.weight, labels)

    def _pair(self, index: int, clean: Tensor | None) -> tuple[Tensor, Tensor]:
        """Adversarial and clean image; the clean one is decoded unless it is given."""
        pair, untouched = self.pairs[index], index >= self._attacked
        if clean is None and not untouched:
            return self._reader.read(pair)
        clean = self._reader.clean(pair) if clean is None else clean
        return clean if untouched else self._reader.adversarial(pair), clean


def numbered_rows(numbers: Sequence[int]) -> tuple[list[int], Tensor]:
    """Each distinct number once, by first appearance, and the place of every number among them."""
    row = {number: at for at, number in enumerate(dict.fromkeys(numbers))}
    return list(row), torch.tensor([row[number] for number in numbers])


class Loader:
    """A dataset's batches in a sampler's order, for as many passes as one likes.

    A plain `DataLoader` would do, but for its errors: what a worker raises it wraps in a page of traceback.
    """

    def __init__(
        self, data: Dataset[Any], sampler: Iterable[Any], *, workers: int = 0, pin_memory: bool = False
    ) -> None:
        """Start nothing yet.

        Args:
            data: A dataset whose `__getitems__` makes the batch of a micro-batch.
            sampler: Yields the micro-batches; what is set on it before a pass counts for that pass.
            workers: Processes that make batches ahead of time; 0 for this one.
            pin_memory: Have batches ready for fast copies to a GPU.
        """
        self._batches: DataLoader[Batch | ImpureError] = DataLoader(
            _Guarded(data),
            batch_size=None,  # the dataset makes whole batches
            sampler=sampler,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
            worker_init_fn=_ignore_signals,
        )

    def close(self) -> None:
        """End the workers. Without it they outlive an error whose traceback holds the loader.

        They keep the run's folder locked, and the process from ending: Python sends them a signal that they
        ignore, and waits.
        """
        iterator = self._batches._iterator
        if isinstance(iterator, _MultiProcessingDataLoaderIter):
            iterator._shutdown_workers()

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches_or_errors():
            if isinstance(batch, ImpureError):
                raise InputError(str(batch)) from batch  # itself, it would keep this frame, and the workers
            yield batch

    def _batches_or_errors(self) -> Iterator[Batch | ImpureError]:
        """Batches, or what went wrong; a worker that was killed is most often one too many for the memory."""
        try:
            yield from self._batches
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise InputError(
                f"a decoding process was killed ({first_line(error)}); is there memory for --workers "
                f"{self._batches.num_workers}? Run again with fewer to go on"
            ) from error


def _ignore_signals(_: int) -> None:
    """Leave stopping to the main process: a terminal, and Slurm, send signals to decoding processes too."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


class _Guarded(Dataset["Batch | ImpureError"]):
    """Hands out a dataset's batches, and its errors instead of raising them."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getitem__(self, micro_batch: Any) -> Batch | ImpureError:
        try:
            batch: Batch = self._data.__getitems__(micro_batch)
        except ImpureError as error:
            LOGGER.error(
                "a batch cannot be made", exc_info=error
            )  # only its message reaches the main process
            return error
        except OSError as error:
            LOGGER.error("a batch cannot be made", exc_info=error)
            return InputError(f"{error.filename or 'a shard'}: cannot be read ({error.strerror or error})")
        return batch
