"""Images kept after they have been decoded once: every later epoch is spared the decoding."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler

from impure.manifests.base.errors import InputError
from impure.purifier.data.dataset import Batch, Loader, PairDataset, numbered_rows
from impure.purifier.data.free_memory import free_memory
from impure.purifier.data.sampler import MicroBatch

Ids = list[int] | NDArray[np.int64]

MOST_OF_RAM = 0.9  # of what is free; the rest is for batches on their way and for the weights' copies
MOST_OF_DEVICE = 0.5  # the other half is for gradients, the optimiser and what the backward pass needs


class ImageCache:
    """The images of a dataset, uint8: in memory, or on the accelerator. Takes no memory before they come.

    The process that trains holds it: decoding processes hand their images over anyway, and have no copy.
    """

    def __init__(self, data: PairDataset, device: torch.device, *, pin_memory: bool = False) -> None:
        """Make room for all images.

        Args:
            data: Whose images.
            device: Where they are kept.
            pin_memory: Have batches ready for fast copies to a GPU.
        """
        self._adversarial, self._clean = data.image_ids
        self._labels = data.labels
        self._pin = pin_memory
        size_of = np.empty((data.images, 2), np.int64)
        for ids in data.image_ids:
            size_of[ids] = data.sizes
        sizes, self._pool_of = np.unique(size_of @ (1 << 16, 1), return_inverse=True)
        self._slot = np.empty(data.images, np.int64)
        self._pools: list[Tensor] = []
        for number, size in enumerate(sizes.tolist()):
            (ids,) = np.nonzero(self._pool_of == number)
            self._slot[ids] = np.arange(len(ids))
            shape = (len(ids), 3, size >> 16, size & 0xFFFF)
            self._pools.append(torch.empty(shape, dtype=torch.uint8, device=device))
        self._kept = np.zeros(data.images, bool)

    def holds(self, micro_batch: MicroBatch) -> bool:
        """Whether every image of a micro-batch has been kept."""
        indices = micro_batch.indices
        return bool(self._kept[self._adversarial[indices]].all() and self._kept[self._clean[indices]].all())

    def batch(self, micro_batch: MicroBatch) -> Batch:
        """A batch of images that are here, as `PairDataset` would make it."""
        clean, clean_row = numbered_rows(self._clean[micro_batch.indices].tolist())
        adversarial = self._taken(self._adversarial[micro_batch.indices])
        labels = self._ready(torch.from_numpy(self._labels[micro_batch.indices]))
        return Batch(adversarial, self._taken(clean), self._ready(clean_row), micro_batch.weight, labels)

    def keep(self, micro_batch: MicroBatch, batch: Batch) -> Batch:
        """Keep the images of a batch; returns it, where the images are kept."""
        clean, _ = numbered_rows(self._clean[micro_batch.indices].tolist())
        adversarial = self._put(self._adversarial[micro_batch.indices], batch.adversarial)
        return batch._replace(adversarial=adversarial, clean=self._put(clean, batch.clean))

    def _taken(self, ids: Ids) -> Tensor:
        """Images of one size, copied."""
        pool, slots = self._place(ids)
        shape = (len(slots), *pool.shape[1:])
        images = torch.empty(
            shape, dtype=pool.dtype, device=pool.device, pin_memory=self._pin and pool.is_cpu
        )
        return torch.index_select(pool, 0, slots, out=images)

    def _put(self, ids: Ids, images: Tensor) -> Tensor:
        """Keep images of one size; returns them, on the device."""
        pool, slots = self._place(ids)
        images = images.to(pool.device, non_blocking=True)
        pool.index_copy_(0, slots, images)
        self._kept[ids] = True
        return images

    def _place(self, ids: Ids) -> tuple[Tensor, Tensor]:
        """The pool of images of one size, and where they lie in it."""
        pool = self._pools[self._pool_of[ids[0]]]
        return pool, self._ready(torch.from_numpy(self._slot[ids])).to(pool.device, non_blocking=True)

    def _ready(self, numbers: Tensor) -> Tensor:
        """Numbers that a GPU can fetch without anybody waiting."""
        return numbers.pin_memory() if self._pin else numbers


class CachedLoader:
    """Like `Loader`; batches whose images have all been seen before come from the cache.

    Their bits are the same.
    """

    def __init__(
        self,
        data: PairDataset,
        sampler: Sampler[MicroBatch],
        cache: ImageCache,
        *,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Start nothing yet; see `Loader`."""
        self._sampler = sampler
        self._cache = cache
        self._unseen: list[MicroBatch] = []
        self._decoded = Loader(data, self._unseen, workers=workers, pin_memory=pin_memory)

    def close(self) -> None:
        """End the workers; see `Loader.close`."""
        self._decoded.close()

    def __iter__(self) -> Iterator[Batch]:
        micro_batches = list(self._sampler)
        seen = [self._cache.holds(micro_batch) for micro_batch in micro_batches]
        self._unseen[:] = [each for each, known in zip(micro_batches, seen, strict=True) if not known]
        decoded = iter(self._decoded) if self._unseen else iter(())
        for micro_batch, known in zip(micro_batches, seen, strict=True):
            if known:
                yield self._cache.batch(micro_batch)
            else:
                yield self._cache.keep(micro_batch, next(decoded))


def check_room(data: PairDataset, place: torch.device, processes: int) -> None:
    """Refuse a cache that would not fit.

    Args:
        data: Whose images.
        place: Where they would be kept.
        processes: That train on this machine, each with a cache of its own in memory.

    Raises:
        InputError: It would not fit.
    """
    in_ram = place.type == "cpu"
    needed = data.image_bytes * (processes if in_ram else 1)
    room = room_for_cache(place)
    if needed > room:
        copies = f" in {processes} processes" if in_ram and processes > 1 else ""
        raise InputError(
            f"--cache: {data.images} decoded images take {needed / 1e9:.1f} GB{copies}, and "
            f"{room / 1e9:.1f} GB can be had {'in memory' if in_ram else f'on {place}'}; give --cache none"
        )


def room_for_cache(place: torch.device) -> int:
    """Bytes that a cache may take in memory, or on a GPU."""
    return int(free_memory(place) * (MOST_OF_RAM if place.type == "cpu" else MOST_OF_DEVICE))
