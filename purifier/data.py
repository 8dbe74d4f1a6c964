"""Pairs of committed shards to batches for training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from impure.manifests.collection import Committed
from impure.manifests.errors import InputError
from impure.purifier.batches import Batch, Loader, as_is
from impure.purifier.crops import crop_side, paired_crops
from impure.purifier.listing import attacked, distinct_clean, list_pairs, pairs_digest
from impure.purifier.pairs import Pair, Pairs
from impure.purifier.reader import CACHE_BYTES, PairReader
from impure.purifier.sampler import EpochSampler, Part
from impure.purifier.shards import Shards

__all__ = [
    "CACHE_BYTES",
    "Batch",
    "EpochSampler",
    "Loader",
    "Pair",
    "PairDataset",
    "PairReader",
    "Pairs",
    "Part",
    "as_is",
    "attacked",
    "crop_side",
    "distinct_clean",
    "list_pairs",
    "paired_crops",
    "pairs_digest",
]


class PairDataset(Dataset[Any]):
    """Training pairs: the attacked ones, then each distinct clean image of each target with itself.

    Attributes:
        pairs: What the elements are made of, in order.
        images: Number of each pair's clean image (N,), int64: equal where pixels and size are.
    """

    def __init__(
        self, units: Sequence[Committed], *, clean_pairs: bool = True, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """List what is there (see `list_pairs`); images are decoded when they are asked for.

        Raises:
            InputError: A unit is inconsistent, or there is no pair at all.
        """
        shards = Shards()
        found = list_pairs(units, shards)
        self.pairs: Pairs = attacked(found)
        self._attacked = len(self.pairs)
        if clean_pairs:
            self.pairs += distinct_clean(found)
        if not self.pairs:
            raise InputError("the chosen shards hold no sample to train on")
        self.images = self.pairs.images
        self._reader = PairReader(cache_bytes, shards)

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def sizes(self) -> NDArray[np.int32]:
        """Height and width of every pair, pixels (N, 2)."""
        return self.pairs.sizes

    def __getitem__(self, index: int) -> Tensor:
        """One pair: the adversarial image, then the clean one, uint8 RGB (2, 3, H, W).

        Raises:
            InputError: See `PairReader.read`.
        """
        at = range(len(self))[index]  # minds negative indices and the end
        return torch.stack(self._pair(at, None))

    def __getitems__(self, part: Part) -> Batch:
        """A batch of pairs of one size; each distinct clean image is decoded once.

        Raises:
            InputError: See `PairReader.read`.
        """
        numbers = self.images[part.indices].tolist()
        clean: dict[int, Tensor] = {}
        adversarial = []
        for index, number in zip(part.indices, numbers, strict=True):
            attack, clean[number] = self._pair(index, clean.get(number))
            adversarial.append(attack)
        row = {number: at for at, number in enumerate(clean)}
        image = torch.tensor([row[number] for number in numbers])
        return Batch(torch.stack(adversarial), torch.stack(list(clean.values())), image, part.share)

    def _pair(self, index: int, clean: Tensor | None) -> tuple[Tensor, Tensor]:
        """Adversarial and clean image; the clean one is decoded unless it is given."""
        pair, untouched = self.pairs[index], index >= self._attacked
        if clean is None and not untouched:
            return self._reader.read(pair)
        clean = self._reader.clean(pair) if clean is None else clean
        return clean if untouched else self._reader.adversarial(pair), clean
