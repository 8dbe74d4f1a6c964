"""Committed shards to batches of image pairs."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from impure.manifests.collection import CLEAN, Committed, Unit
from impure.manifests.config import digest
from impure.manifests.errors import InputError
from impure.manifests.pixels import Pixels, px_sha256
from impure.manifests.samples import SampleIndex, read_sample
from impure.manifests.storage import index_unit

CACHE_BYTES = 2 << 30
CROPS = {224: 192, 299: 256}  # paper's streams: stored side -> side of the training crop


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One stored sample as its manifest describes it; nothing is decoded."""

    unit: Committed
    key: str
    label: int
    width: int
    height: int
    clean_sha256: str
    adversarial_sha256: str


def list_pairs(units: Sequence[Committed]) -> list[Pair]:
    """List every stored sample of some units: the manifest rows with status ok.

    Shards that are still far away (see `remote.open_shards`) are listed from their manifests alone.

    Raises:
        InputError: A unit's shard and manifest do not hold the same keys, or its images are not there.
    """
    return [pair for unit in units for pair in _unit_pairs(unit)]


def distinct_clean(pairs: Sequence[Pair]) -> list[Pair]:
    """One pair for each distinct clean image of each target, in the order of first appearance."""
    first: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        first.setdefault((pair.unit.unit.target, pair.clean_sha256), pair)
    return list(first.values())


def attacked(pairs: Sequence[Pair]) -> list[Pair]:
    """Those of the pairs that an attack made."""
    return [pair for pair in pairs if pair.unit.unit.attack != CLEAN]


def pairs_digest(pairs: Sequence[Pair]) -> str:
    """SHA-256 (hex) of what the pairs hold: units, keys, labels and pixels."""
    return digest(
        [
            [str(pair.unit.unit), pair.key, pair.label, pair.clean_sha256, pair.adversarial_sha256]
            for pair in pairs
        ]
    )


def _unit_pairs(unit: Committed) -> list[Pair]:
    """The samples of one unit, checked against its shard's headers."""
    rows = unit.stored_rows("key", "label", "width", "height", "clean_px_sha256", "adv_px_sha256")
    if unit.tar.is_file():
        _index(unit)
    return [
        Pair(
            unit=unit,
            key=row["key"],
            label=row["label"],
            width=row["width"],
            height=row["height"],
            clean_sha256=row["clean_px_sha256"],
            adversarial_sha256=row["adv_px_sha256"],
        )
        for row in rows
    ]


def _index(unit: Committed) -> dict[str, SampleIndex]:
    """A unit's samples by key, checked against its manifest; its shard is fetched if it is far away."""
    keys = [row["key"] for row in unit.stored_rows("key")]
    shard = {sample.key: sample for sample in index_unit(unit)}
    if sorted(keys) != sorted(shard):
        odd = sorted(set(keys) ^ set(shard))
        example = f", for example {odd[0]!r}" if odd else ""
        raise InputError(
            f"{unit.tar}: holds {len(shard)} samples, its manifest {len(keys)}, and they differ{example}; "
            "generate the shard again"
        )
    return shard


class PairReader:
    """Decodes pairs, checks their pixels against the manifest, and keeps some in memory.

    Kept images are found by the hash of their pixels, so a clean image that many attacks share is kept once.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES) -> None:
        self._room = cache_bytes
        self._kept: dict[str, Tensor] = {}
        self._indices: dict[Unit, dict[str, SampleIndex]] = {}

    def read(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Adversarial and clean image, uint8 RGB (3, H, W).

        Raises:
            InputError: The shard's pixels, size or label are not those of the manifest.
        """
        adversarial = self._kept.get(pair.adversarial_sha256)
        clean = self._kept.get(pair.clean_sha256)
        if adversarial is not None and clean is not None:
            return adversarial, clean
        if pair.unit.unit not in self._indices:
            self._indices[pair.unit.unit] = _index(pair.unit)
        sample = read_sample(self._indices[pair.unit.unit][pair.key])
        where = f"{pair.unit.tar}: sample {pair.key!r}"
        if sample.label != pair.label or sample.clean.shape[:2] != (pair.height, pair.width):
            raise InputError(f"{where}: label or size is not that of the manifest; generate the shard again")
        wanted = ((sample.adversarial, pair.adversarial_sha256), (sample.clean, pair.clean_sha256))
        if any(px_sha256(pixels) != sha256 for pixels, sha256 in wanted):
            raise InputError(f"{where}: pixels differ from the manifest's hashes; generate the shard again")
        found = tuple(_tensor(pixels) for pixels, _ in wanted)
        self._keep(pair.adversarial_sha256, found[0])
        self._keep(pair.clean_sha256, found[1])
        return found[0], found[1]

    def _keep(self, sha256: str, image: Tensor) -> None:
        """Keep an image if there is room."""
        if sha256 not in self._kept and image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[sha256] = image


def _tensor(pixels: Pixels) -> Tensor:
    """Pixels (H, W, 3) as a tensor (3, H, W)."""
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


class PairDataset(Dataset[Tensor]):
    """Training pairs: element i is uint8 RGB (2, 3, H, W), the adversarial image, then the clean one.

    Behind the attacked pairs stand the clean ones: each distinct clean image once, paired with itself.
    """

    def __init__(
        self, units: Sequence[Committed], *, clean_pairs: bool = True, cache_bytes: int = CACHE_BYTES
    ) -> None:
        """List what is there (see `list_pairs`); images are decoded when they are asked for.

        Raises:
            InputError: A unit is inconsistent, or there is no pair at all.
        """
        found = list_pairs(units)
        clean = distinct_clean(found) if clean_pairs else []
        self.pairs = attacked(found) + clean
        self._attacked = len(self.pairs) - len(clean)
        self._reader = PairReader(cache_bytes)
        if not self.pairs:
            raise InputError("the chosen shards hold no sample to train on")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Tensor:
        adversarial, clean = self._reader.read(self.pairs[index])
        return torch.stack([adversarial if index < self._attacked else clean, clean])

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of every pair, in pixels."""
        return [(pair.height, pair.width) for pair in self.pairs]


class EpochSampler(Sampler[list[int]]):
    """Batches of one image size in an order that depends on (seed, epoch) alone.

    Set `epoch` and `start` before iterating; `start` batches are passed over, for resuming inside an epoch.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], batch_size: int, seed: int) -> None:
        self._groups = [
            [index for index, other in enumerate(sizes) if other == size] for size in sorted(set(sizes))
        ]
        self._batch_size = batch_size
        self._seed = seed
        self.epoch = 0
        self.start = 0

    @functools.cached_property
    def steps(self) -> int:
        """Batches in a whole epoch; the last one of each size may be smaller."""
        return sum(-(-len(group) // self._batch_size) for group in self._groups)

    def __len__(self) -> int:
        return self.steps - self.start

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self._seed, self.epoch])
        batches = []
        for group in self._groups:
            shuffled = order.permutation(group).tolist()
            batches += [
                shuffled[at : at + self._batch_size] for at in range(0, len(shuffled), self._batch_size)
            ]
        turns = order.permutation(len(batches)).tolist()
        return iter([batches[turn] for turn in turns[self.start :]])


def crop_side(side: int, crop: int | None, multiple: int) -> int:
    """Side of the training crop of a stored side: `crop`, or by default the paper's, rounded down.

    Args:
        side: Of the stored image, pixels.
        crop: Wished side; None for 192 of 224, 256 of 299, and else the whole side.
        multiple: What the network can take.

    Raises:
        InputError: The image or the crop is too small for the network.
    """
    wished = min(crop or CROPS.get(side, side), side) // multiple * multiple
    if wished == 0:
        raise InputError(f"a training crop of {crop or side} pixels is smaller than the network's {multiple}")
    return wished


def paired_crops(pairs: Tensor, height: int, width: int, generator: Generator) -> Tensor:
    """Cut the same random window from both images of each pair.

    Args:
        pairs: (B, 2, 3, H, W).
        height: Of the window, pixels.
        width: Of the window, pixels.
        generator: Source of the windows, on the pairs' device.

    Returns:
        (B, 2, 3, height, width).
    """
    batch, device = len(pairs), pairs.device
    room = (pairs.shape[3] - height, pairs.shape[4] - width)
    top, left = (torch.randint(free + 1, (batch, 1), generator=generator, device=device) for free in room)
    rows = (top + torch.arange(height, device=device))[:, :, None]  # B, height, 1
    columns = (left + torch.arange(width, device=device))[:, None, :]  # B, 1, width
    sample = torch.arange(batch, device=device)[:, None, None]
    return pairs[sample, :, :, rows, columns].permute(0, 3, 4, 1, 2)
