"""How a collection stores its pairs: what goes into a tar of a sample, and how a perturbation is stored."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.errors import InputError, ReadBackError
from impure.manifests.base.images import ENCODINGS, Pixels, decode_stored
from impure.manifests.base.tar import MAX_NAME
from impure.manifests.collection.samples import Sample, Stored
from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.collection.storage_profiles import PAIRS, PNG, PROFILES

OFFSET = 128
"""Of a stored perturbation: 0 is stored as mid-grey."""

MAX_CHANGE = 127
"""Units of 1/255: the most that a stored perturbation holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """How a shard's pairs are stored.

    Attributes:
        encoding: A key of `images.ENCODINGS`; WebP is smaller than PNG, and takes half the time to write.
        profile: A key of `PROFILES`.
    """

    encoding: str = PNG
    profile: str = PAIRS

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise InputError(f"encoding {self.encoding!r} is none of {', '.join(ENCODINGS)}")
        if self.profile not in PROFILES:
            raise InputError(f"storage profile {self.profile!r} is none of {', '.join(PROFILES)}")

    def images(self, attack: str) -> tuple[str, ...]:
        """Which images are stored of each sample in a shard of this attack, in order."""
        return PROFILES[self.profile][attack == CLEAN]

    def encode(self, pixels: Pixels, *, delta: bool = False) -> bytes:
        """Encode RGB pixels (H, W, 3), the same bytes every time; they are decoded at once and compared.

        Args:
            pixels: An image.
            delta: It is a perturbation.

        Raises:
            ReadBackError: They decode to something else.
        """
        encoding = ENCODINGS[self.encoding]
        data = (encoding.encode_delta if delta else encoding.encode)(pixels)
        try:
            if np.array_equal(decode_stored(data, "just encoded", self.encoding), pixels):
                return data
        except InputError as error:
            raise ReadBackError(f"an image that was just encoded is broken: {error}") from error
        raise ReadBackError("an image that was just encoded decodes to other pixels; check the memory")

    def stored(self, sample: Sample, attack: str) -> Stored:
        """What is stored of a pair in a shard of this attack.

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
            (
                f"{image}.{self.encoding}",
                clean if image == "clean" and clean else self.encode(pixels, delta=image == "delta"),
            )
            for image, pixels in stored.images.items()
        ]
        members += [("cls", str(stored.label).encode()), ("json", canonical_json(stored.meta).encode())]
        if len(f"{sample.key}.{members[0][0]}") > MAX_NAME:
            raise InputError(
                f"sample key {sample.key!r} is too long: with its ending more than {MAX_NAME} bytes"
            )
        return [(f"{sample.key}.{extension}", data) for extension, data in members]


def change_of(stored: Stored) -> NDArray[np.int64]:
    """The perturbation of a stored sample, int64 (H, W, 3), units of 1/255."""
    if "delta" in stored.images:
        return stored.images["delta"].astype(np.int64) - OFFSET
    clean = stored.images["clean"].astype(np.int64)
    return stored.images.get("adv", stored.images["clean"]) - clean


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
