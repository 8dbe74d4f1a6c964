"""Decoding stored images, and checking them against the manifest."""

from collections.abc import Collection

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import Pixels, px_sha256
from impure.manifests.collection.samples import read_stored
from impure.purifier.data.pairs import Pair
from impure.purifier.data.shard_index import ShardIndices

CACHE_BYTES = 2 << 30

_Kept = tuple[str, int, int]  # the same bytes can be an image of 2x8 and one of 4x4 pixels


class PairReader:
    """Decodes pairs, checks their pixels against the manifest, and keeps some in memory.

    Kept images are found by the hash of their pixels, so a clean image that many attacks share is kept once.
    """

    def __init__(self, cache_bytes: int = CACHE_BYTES, indices: ShardIndices | None = None) -> None:
        """Keep at most so many bytes of pixels.

        Args:
            cache_bytes: The most; 0 for none.
            indices: Indices of the shards, as far as they have been made (see `pairs.list_pairs`).
        """
        self._room = cache_bytes
        self._kept: dict[_Kept, Tensor] = {}
        self._indices = ShardIndices() if indices is None else indices

    def read(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Adversarial and clean image, uint8 RGB (3, H, W).

        Raises:
            InputError: The shard's pixels, size or label are not those of the manifest.
        """
        images = self._images(pair, {"adv": pair.adversarial_sha256, "clean": pair.clean_sha256})
        return images["adv"], images["clean"]

    def adversarial(self, pair: Pair) -> Tensor:
        """The adversarial image alone (see `read`)."""
        return self._images(pair, {"adv": pair.adversarial_sha256})["adv"]

    def clean(self, pair: Pair) -> Tensor:
        """The clean image alone (see `read`)."""
        return self._images(pair, {"clean": pair.clean_sha256})["clean"]

    def _images(self, pair: Pair, wanted: dict[str, str]) -> dict[str, Tensor]:
        """Images by `adv` and `clean`, wanted with these hashes; decoded where they are not kept."""
        keys = {image: (sha256, pair.height, pair.width) for image, sha256 in wanted.items()}
        images = {image: self._kept[key] for image, key in keys.items() if key in self._kept}
        if missing := keys.keys() - images.keys():
            for image, pixels in self._decode(pair, missing).items():
                if px_sha256(pixels) != wanted[image]:
                    raise InputError(
                        f"{_where(pair)}: pixels differ from the manifest's hashes; generate the shard again"
                    )
                images[image] = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
                self._keep(keys[image], images[image])
        return images

    def _decode(self, pair: Pair, images: Collection[str]) -> dict[str, Pixels]:
        """Decode some images of a sample; a clean image stored alone is its own adversarial one."""
        stored = read_stored(self._indices.index(pair.shard).sample(pair.row, pair.key, images))
        sizes = {pixels.shape[:2] for pixels in stored.images.values()}
        if stored.label != pair.label or sizes != {(pair.height, pair.width)}:
            raise InputError(
                f"{_where(pair)}: label or size is not that of the manifest; generate the shard again"
            )
        return {image: stored.images[image if image in stored.images else "clean"] for image in images}

    def _keep(self, key: _Kept, image: Tensor) -> None:
        """Keep an image if there is room."""
        if key not in self._kept and image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[key] = image


def _where(pair: Pair) -> str:
    """The sample's place, for error messages."""
    return f"{pair.shard.tar}: sample {pair.key!r}"
