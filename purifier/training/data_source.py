"""What a training run learns from: stored pairs, or clean photographs to pre-train on."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.data.crops import crop_side
from impure.purifier.data.dataset import Loader, PairDataset
from impure.purifier.data.image_cache import CachedLoader, ImageCache, check_room
from impure.purifier.data.pairs import pairs_digest
from impure.purifier.data.photos import PhotoDataset, PhotoSampler, photo_sides
from impure.purifier.data.sampler import BatchSplit, EpochSampler
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.runtime_options import RuntimeOptions
from impure.purifier.training.train_config import TrainConfig

BatchOrder = EpochSampler | PhotoSampler
"""Which images make which update; see `EpochSampler`."""


class DataSource(Protocol):
    """Data, the order in which it is learnt from, and what tells it from any other."""

    @property
    def dataset(self) -> Dataset[Any]:
        """Makes the batches that an order asks for."""

    @property
    def images(self) -> int:
        """How many there are in an epoch."""

    def order(self, config: TrainConfig, ranks: Ranks, multiple: int) -> BatchOrder:
        """This rank's micro-batches of every update, for a network that takes multiples of so many pixels."""

    def describe(self) -> Mapping[str, object]:
        """Its identity, for `config.json`."""

    def composition(self) -> Mapping[str, int]:
        """What an epoch consists of: numbers of images by their kind."""


class PairSource:
    """Pairs of committed shards."""

    def __init__(
        self, shards: Sequence[CommittedShard], *, attacked_pairs: bool = True, clean_pairs: bool = True
    ) -> None:
        """List the pairs.

        Args:
            shards: Shards of any image sizes, targets and attacks.
            attacked_pairs: Learn from the attacked images.
            clean_pairs: Also learn to leave clean images alone; or from these alone.

        Raises:
            InputError: A shard is inconsistent, or all are empty.
        """
        self._data = PairDataset(  # see `open_loader` for the cache
            shards, attacked_pairs=attacked_pairs, clean_pairs=clean_pairs, cache_bytes=0
        )

    @property
    def dataset(self) -> PairDataset:
        """The pairs."""
        return self._data

    @property
    def images(self) -> int:
        """The number of pairs."""
        return len(self._data)

    def order(self, config: TrainConfig, ranks: Ranks, multiple: int) -> BatchOrder:
        """See `EpochSampler`.

        Raises:
            InputError: Some images are smaller than the crop, or a batch has too few for all ranks and
                micro-batches.
        """
        for side in np.unique(self._data.sizes).tolist():
            crop_side(side, config.crop, multiple)
        return EpochSampler(
            self._data.sizes,
            self._data.clean_ids,
            _split(config, ranks),
            variants=config.variants,
            seed=config.seed,
        )

    def describe(self) -> Mapping[str, object]:
        """Digests of pixels and collections, and the names of the shards."""
        pairs = self._data.pairs
        shards = {str(shard.shard_id): shard for shard in pairs.shards}
        return {
            "pairs": len(pairs),
            "pixels": pairs_digest(pairs),
            "shards": sorted(shards),
            "collections": sorted({digest(shard.rows()[1]) for shard in shards.values()}),
        }

    def composition(self) -> Mapping[str, int]:
        """Numbers of pairs by `target/attack`; `clean` ones are of an image with itself."""
        return self._data.composition()


class PhotoSource:
    """Photographs, for pre-training with the pixel loss alone."""

    def __init__(self, load: Callable[[int], Image.Image], names: Sequence[str]) -> None:
        """Hold a list of photographs.

        Args:
            load: Decodes the photograph with an index.
            names: What tells them apart.
        """
        self._load = load
        self._names = names

    @property
    def dataset(self) -> Dataset[Any]:
        """Random crops."""
        return PhotoDataset(self._load, len(self._names))

    @property
    def images(self) -> int:
        """The number of photographs."""
        return len(self._names)

    def order(self, config: TrainConfig, ranks: Ranks, multiple: int) -> BatchOrder:
        """See `PhotoSampler`."""
        sides = photo_sides(multiple)
        return PhotoSampler(len(self._names), _split(config, ranks), sides=sides, seed=config.seed)

    def describe(self) -> Mapping[str, object]:
        """Number and digest of the names."""
        return {"photographs": len(self._names), "names": digest(list(self._names))}

    def composition(self) -> Mapping[str, int]:
        """The number of photographs."""
        return {"photographs": len(self._names)}


def _split(config: TrainConfig, ranks: Ranks) -> BatchSplit:
    """How a run's batches are split among ranks and micro-batches."""
    return BatchSplit(
        batch_size=config.batch_size, rank=ranks.rank, world=ranks.world, grad_accum=config.grad_accum
    )


def open_loader(
    data_source: DataSource, order: BatchOrder, device: torch.device, runtime: RuntimeOptions
) -> Loader | CachedLoader:
    """The batches of an order, as often as one iterates; from the second epoch on from the cache, if any.

    To be closed, whatever happens.

    Raises:
        InputError: The cache would not fit, or photographs were to be cached.
    """
    pinned = device.type == "cuda"
    data = data_source.dataset
    if runtime.cache == "none":
        return Loader(data, order, workers=runtime.workers, pin_memory=pinned)
    if not isinstance(data, PairDataset) or not isinstance(order, EpochSampler):
        raise InputError("--cache: photographs are cropped and resized anew each time; leave it out")
    place = device if runtime.cache == "device" else torch.device("cpu")
    check_room(data, place, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    cache = ImageCache(data, place, pin_memory=pinned)
    return CachedLoader(data, order, cache, workers=runtime.workers, pin_memory=pinned)
