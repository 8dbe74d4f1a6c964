"""How a collection stores its pairs: three profiles of what a shard's tar holds, in two lossless encodings.

`pairs` holds both images of every pair. `clean-once` leaves the clean image to the target's own `clean` shard
of the same split and shard. `delta` holds perturbations alone, for whoever has the photographs: they may be
handed on where the images may not (`impure-data rebuild` puts both together again).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from impure.manifests.base.canonical_json import canonical_json, from_mapping
from impure.manifests.base.errors import InputError
from impure.manifests.base.images import ENCODINGS, Pixels
from impure.manifests.base.tar import MAX_NAME, Member
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.sample_key import stem_of
from impure.manifests.collection.samples import (
    Fingerprint,
    Sample,
    SampleIndex,
    Stored,
    index_shard,
    read_sample,
)
from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.sharing.cache import local_tar

#: profile -> images stored of a sample in an attack's shard, and in the clean one's
PROFILES = {
    "pairs": (("clean", "adv"), ("clean", "adv")),
    "clean-once": (("adv",), ("clean",)),
    "delta": (("delta",), ("delta",)),
}
OFFSET = 128
"""Of a stored perturbation: 0 is stored as mid-grey."""

MAX_CHANGE = 127
"""Units of 1/255: the most that a stored perturbation holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a shard's pairs are stored.

    Attributes:
        encoding: A key of `pixels.ENCODINGS`; WebP is about three times as fast to write as PNG.
        profile: A key of `PROFILES`.
    """

    encoding: str = "png"
    profile: str = "pairs"

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise InputError(f"encoding {self.encoding!r} is none of {', '.join(ENCODINGS)}")
        if self.profile not in PROFILES:
            raise InputError(f"storage profile {self.profile!r} is none of {', '.join(PROFILES)}")

    def images(self, attack: str) -> tuple[str, ...]:
        """Which images are stored of each sample in a unit of this attack, in order."""
        return PROFILES[self.profile][attack == CLEAN]

    def encode(self, pixels: Pixels) -> bytes:
        """Encode RGB pixels (H, W, 3), the same bytes every time."""
        return ENCODINGS[self.encoding].encode(pixels)

    def stored(self, sample: Sample, attack: str) -> Stored:
        """What is stored of a pair in a unit of this attack.

        Raises:
            InputError: The `delta` profile cannot hold so large a change.
        """
        images = {image: _IMAGES[image](sample) for image in self.images(attack)}
        return Stored(sample.key, sample.label, sample.meta, images)

    def members(self, sample: Sample, attack: str, clean: bytes | None = None) -> list[tuple[str, bytes]]:
        """Names and contents of a sample's members in the order in which they are stored.

        Args:
            sample: The pair.
            attack: Of its shard.
            clean: The clean image as `encode` gives it, where it is encoded already.

        Raises:
            InputError: A name is longer than a tar's header holds, or see `stored`.
        """
        stored = self.stored(sample, attack)
        members = [
            (f"{image}.{self.encoding}", clean if image == "clean" and clean else self.encode(pixels))
            for image, pixels in stored.images.items()
        ]
        members += [("cls", str(stored.label).encode()), ("json", canonical_json(stored.meta).encode())]
        if len(f"{sample.key}.{members[0][0]}") > MAX_NAME:
            raise InputError(
                f"sample key {sample.key!r} is too long: with its ending more than {MAX_NAME} bytes"
            )
        return [(f"{sample.key}.{extension}", data) for extension, data in members]

    def fingerprint(self, sample: Sample, attack: str) -> Fingerprint:
        """What `samples.read_fingerprints` has to find of a sample in a fresh tar."""
        return self.stored(sample, attack).fingerprint


def storage_of(committed: CommittedShard) -> Storage:
    """How a shard says that it is stored; shards without a word are PNG pairs.

    Raises:
        InputError: It says something impossible.
    """
    said = committed.marker.get("config", {}).get("storage", {})
    if not isinstance(said, dict) or not all(isinstance(value, str) for value in said.values()):
        raise InputError(f"{committed.shard_id}: its marker's storage must be two names, it is {said!r}")
    try:
        return from_mapping(Storage, said, "storage")
    except InputError as error:
        raise InputError(f"{committed.shard_id}: its marker says: {error}") from error


def change_of(stored: Stored) -> NDArray[np.int64]:
    """The perturbation of a stored sample, int64 (H, W, 3), units of 1/255."""
    if "delta" in stored.images:
        return stored.images["delta"].astype(np.int64) - OFFSET
    clean = stored.images["clean"].astype(np.int64)
    return stored.images.get("adv", stored.images["clean"]) - clean


def index_stored_samples(committed: CommittedShard) -> list[SampleIndex]:
    """List a shard's samples, with the members that lie in another shard's tar; perturbations stay as they are.

    Raises:
        InputError: A shard is damaged (see `index_shard`), or clean images are missing.
    """
    samples = index_shard(local_tar(committed))
    if not samples or "adv" not in samples[0].members or "clean" in samples[0].members:
        return samples
    clean = _clean_members(committed)
    if lacking := [sample.key for sample in samples if stem_of(sample.key) not in clean]:
        raise InputError(
            f"{committed.tar}: the clean image of sample {lacking[0]!r} is not in the clean shard "
            f"{_clean_tar(committed)}; {_remedy(committed)}"
        )
    return [
        replace(sample, members={"clean": clean[stem_of(sample.key)], **sample.members}) for sample in samples
    ]


def index_pairs(committed: CommittedShard) -> list[SampleIndex]:
    """List a shard's samples as whole pairs, wherever their members lie; `read_sample` reads each.

    Raises:
        InputError: The shard holds perturbations only, or see `index_stored_samples`.
    """
    samples = index_stored_samples(committed)
    if samples and "delta" in samples[0].members:
        raise InputError(
            f"{committed.tar}: holds perturbations without images; "
            f"run `impure-data rebuild {committed.root} --images IMAGENET` first"
        )
    return samples


def read_pairs(committed: CommittedShard) -> Iterator[Sample]:
    """Read every pair of a shard in order, one at a time (see `index_pairs` and `samples.read_sample`)."""
    return map(read_sample, index_pairs(committed))


def _clean_members(committed: CommittedShard) -> dict[str, Member]:
    """Where the clean images of a shard's split and shard lie, by `stem_of` their keys."""
    collection, shard_id = Collection(committed.root), replace(committed.shard_id, attack=CLEAN)
    if not collection.marker_path(shard_id).is_file():
        where = _clean_tar(committed)
        raise InputError(f"{committed.tar}: its clean images are missing, {where}; {_remedy(committed)}")
    tar = local_tar(replace(collection.read(shard_id), origin=committed.origin))
    samples = [sample for sample in index_shard(tar) if "clean" in sample.members]
    found = {stem_of(sample.key): sample.members["clean"] for sample in samples}
    if len(found) != len(samples):
        raise InputError(f"{tar}: holds two samples of one image; {_remedy(committed)}")
    return found


def _clean_tar(committed: CommittedShard) -> Path:
    """The tar that holds a shard's clean images."""
    return Collection(committed.root).stem(replace(committed.shard_id, attack=CLEAN)).with_suffix(".tar")


def _remedy(committed: CommittedShard) -> str:
    """How to make the clean shard."""
    return (
        f"make them: `impure-data generate --attack {CLEAN} --out {committed.root}` "
        "with the --images, --target and --split of the others"
    )


def _delta(sample: Sample) -> Pixels:
    """The perturbation as an image (H, W, 3), `OFFSET` for none."""
    change = sample.adversarial.astype(np.int16) - sample.clean
    if (most := int(np.abs(change).max())) > MAX_CHANGE:
        raise InputError(
            f"sample {sample.key!r}: changes a pixel by {most}/255, the delta profile holds at most "
            f"{MAX_CHANGE}/255; store it as pairs or clean-once"
        )
    return (change + OFFSET).astype(np.uint8)


_IMAGES: dict[str, Callable[[Sample], Pixels]] = {
    "clean": lambda sample: sample.clean,
    "adv": lambda sample: sample.adversarial,
    "delta": _delta,
}
