"""Batches, and the worker processes that make them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from impure.manifests.errors import InputError


class Batch(NamedTuple):
    """Images of one size, uint8 RGB.

    Attributes:
        adversarial: (B, 3, H, W).
        clean: Each distinct clean image once (U, 3, H, W).
        image: Row of `clean` that belongs to each adversarial image (B,), int64.
        share: This part's share of the whole update's images.
    """

    adversarial: Tensor
    clean: Tensor
    image: Tensor
    share: float


class Loader:
    """A dataset's batches in a sampler's order, for as many passes as one likes.

    A plain `DataLoader` would do, but for its errors: what a worker raises it wraps in a page of traceback.
    """

    def __init__(
        self, data: Dataset[Any], sampler: Sampler[Any], *, workers: int = 0, pin_memory: bool = False
    ) -> None:
        """Start nothing yet.

        Args:
            data: A dataset whose `__getitems__` makes the batch of a part.
            sampler: Yields the parts; what is set on it before a pass counts for that pass.
            workers: Processes that make batches ahead of time; 0 for this one.
            pin_memory: Have batches ready for fast copies to a GPU.
        """
        self._batches: DataLoader[Batch | InputError] = DataLoader(
            _Guarded(data),
            batch_sampler=sampler,
            collate_fn=as_is,
            num_workers=workers,
            pin_memory=pin_memory,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Batch]:
        for found in self._batches:
            if isinstance(found, InputError):
                raise InputError(str(found)) from found  # itself, it would keep this frame, and the workers
            yield found


class _Guarded(Dataset["Batch | InputError"]):
    """Hands out a dataset's batches, and its errors instead of raising them."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getitems__(self, part: Any) -> Batch | InputError:
        try:
            batch: Batch = self._data.__getitems__(part)
        except InputError as error:
            return error
        return batch


def as_is(batch: Any) -> Any:
    """The `collate_fn` of datasets that make whole batches."""
    return batch
