"""Read samples from WebDataset shards that somebody else may have made.

A shard is data and may be hostile: only the members named in `EXTENSIONS` are looked at, their sizes and
image dimensions are bounded before anything is decoded, names are only ever compared, never used as paths.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impure.manifests.base.canonical_json import parse_object
from impure.manifests.base.errors import InputError
from impure.manifests.base.images import ENCODINGS, Pixels, decode_stored
from impure.manifests.base.tar import Member, read_members, walk
from impure.manifests.collection.shard_id import MAX_SAMPLES

IMAGES = ("clean", "adv", "delta")

#: member extension -> largest size in bytes that is read
EXTENSIONS = {f"{image}.{encoding}": 1 << 26 for image in IMAGES for encoding in ENCODINGS}
EXTENSIONS |= {"cls": 16, "json": 1 << 16}

#: Which images make a sample: pairs; clean and attacked images apart; perturbations (see `storage`).
LAYOUTS = (("clean", "adv"), ("clean",), ("adv",), ("delta",))

_KEY = re.compile(r"[ -~]{1,100}")  # printable ASCII


@dataclass(frozen=True, slots=True)
class SampleIndex:
    """Where one sample's members lie, by `clean`, `adv`, `delta`, `cls` and `json`; not all in one tar."""

    key: str
    members: dict[str, Member]

    @property
    def where(self) -> str:
        """The sample's place, for error messages."""
        return f"{self.members['cls'].path}: sample {self.key!r}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair: clean and adversarial pixels (H, W, 3), label in the target's label space, its JSON."""

    key: str
    clean: Pixels
    adversarial: Pixels
    label: int
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stored:
    """One sample as it is stored: `images` holds pixels (H, W, 3) by `clean`, `adv` and `delta`."""

    key: str
    label: int
    meta: dict[str, Any]
    images: dict[str, Pixels]


def index_shard(path: Path) -> list[SampleIndex]:
    """List the samples of a shard in order, reading headers only.

    Raises:
        InputError: The file is no plain tar (see `tar.walk`) or is cut short; a sample is incomplete,
            doubled, oversized or stored in another way than those before it.
    """
    samples: dict[str, dict[str, Member]] = {}
    last = ""
    for member in walk(path):
        key, _, extension = member.name.partition(".")
        if extension not in EXTENSIONS or not key or "/" in member.name:
            continue
        _check_member(member, key, EXTENSIONS[extension])
        members = samples.setdefault(key, {})
        kind = extension.partition(".")[0]
        if kind in members or (members and key != last):
            raise InputError(f"{path}: member {member.name!r} is in it twice, or apart from its sample")
        if len(samples) > MAX_SAMPLES:
            raise InputError(f"{path}: refused, more than {MAX_SAMPLES} samples")
        members[kind] = member
        last = key
    _check_layout(path, samples)
    return [SampleIndex(key, members) for key, members in samples.items()]


def _check_member(member: Member, key: str, most: int) -> None:
    """Refuse a member with an extension of ours that is none of ours."""
    if not _KEY.fullmatch(key):
        raise InputError(f"{member.path}: member {member.name!r} has a key that is not printable ASCII")
    if not member.plain or member.size > most:
        raise InputError(f"{member.path}: member {member.name!r} is no plain file of at most {most} bytes")


def _check_layout(path: Path, samples: dict[str, dict[str, Member]]) -> None:
    """Refuse samples that lack a member, or are stored in different ways."""
    layouts = {frozenset(members): key for key, members in reversed(samples.items())}
    for layout, key in layouts.items():
        if layout not in [{*images, "cls", "json"} for images in LAYOUTS]:
            raise InputError(
                f"{path}: sample {key!r} lacks a member, or has one too many; it needs cls, json, and "
                f"{' or '.join('+'.join(images) for images in LAYOUTS)}"
            )
    if len(layouts) > 1:
        raise InputError(
            f"{path}: samples {' and '.join(map(repr, layouts.values()))} are stored differently"
        )


def read_stored(index: SampleIndex) -> Stored:
    """Read and decode what is stored of one sample.

    Raises:
        InputError: A member cannot be read or decoded, or two images differ in size.
    """
    raw = read_members(index.members)
    where = index.where
    meta = parse_object(raw["json"], f"{where}: its json member")
    if not (digits := raw["cls"].strip()).isdigit():
        raise InputError(f"{where}: its cls member is no class number, it is {raw['cls']!r}")
    images = {
        name: decode_stored(raw[name], f"{where}: {name}", member.name.rpartition(".")[2])
        for name, member in index.members.items()
        if name in IMAGES
    }
    if len({pixels.shape for pixels in images.values()}) > 1:
        raise InputError(f"{where}: clean and adversarial image differ in size")
    return Stored(index.key, int(digits), meta, images)


def read_sample(index: SampleIndex) -> Sample:
    """Read and decode one pair; a clean image stored alone is its own adversarial one.

    Raises:
        InputError: See `read_stored`; or the clean image is not stored there.
    """
    stored = read_stored(index)
    if "clean" not in stored.images:
        raise InputError(
            f"{index.where}: holds no clean image; read the shard as part of its collection, "
            "or, where it holds a perturbation, run `impure-data rebuild ROOT --images IMAGENET` first"
        )
    clean = stored.images["clean"]
    return Sample(index.key, clean, stored.images.get("adv", clean), stored.label, stored.meta)


def read_shard(path: Path) -> Iterator[Sample]:
    """Read every pair of a shard in order (see `index_shard` and `read_sample`)."""
    return map(read_sample, index_shard(path))
