"""Read samples out of WebDataset shards that somebody else may have made.

A shard is data and may be hostile: only the members named in `EXTENSIONS` are looked at, their sizes and
image dimensions are bounded before anything is decoded, names are only ever compared, never used as paths.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impure.manifests.errors import InputError
from impure.manifests.pixels import Pixels, decode_stored

#: member extension -> largest size in bytes that is read
EXTENSIONS = {"clean.png": 1 << 26, "adv.png": 1 << 26, "cls": 16, "json": 1 << 16}


@dataclass(frozen=True, slots=True)
class SampleIndex:
    """Where one sample's members lie in a shard: extension -> (offset, bytes)."""

    key: str
    members: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One pair: clean and adversarial pixels (H, W, 3), label in the target's label space, its JSON."""

    key: str
    clean: Pixels
    adversarial: Pixels
    label: int
    meta: dict[str, Any]


def index_shard(path: Path) -> list[SampleIndex]:
    """List the samples of a shard in order, reading headers only.

    Raises:
        InputError: The file is no plain tar, is truncated inside a member, or a sample is incomplete,
            doubled or oversized.
    """
    samples: dict[str, dict[str, tuple[int, int]]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                _add_member(path, samples, member)
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a readable tar file ({error})") from error
    end = max((offset + size for found in samples.values() for offset, size in found.values()), default=0)
    if path.stat().st_size < end:
        raise InputError(f"{path}: cut short; generate it again")
    if broken := [key for key, found in samples.items() if len(found) != len(EXTENSIONS)]:
        raise InputError(f"{path}: sample {broken[0]!r} lacks a member; it needs {', '.join(EXTENSIONS)}")
    return [SampleIndex(key, found) for key, found in samples.items()]


def _add_member(path: Path, samples: dict[str, dict[str, tuple[int, int]]], member: tarfile.TarInfo) -> None:
    """Note one tar member, if it is one that we read."""
    key, _, extension = member.name.partition(".")
    if extension not in EXTENSIONS or not key or "/" in member.name:
        return
    if not member.isreg() or member.size > EXTENSIONS[extension]:
        raise InputError(
            f"{path}: member {member.name!r} is no plain file of at most {EXTENSIONS[extension]} bytes"
        )
    if extension in samples.setdefault(key, {}):
        raise InputError(f"{path}: member {member.name!r} stands there twice")
    samples[key][extension] = (member.offset_data, member.size)


def read_sample(path: Path, index: SampleIndex) -> Sample:
    """Read and decode one sample of a shard.

    Raises:
        InputError: A member cannot be decoded, is too large, or the two images differ in size.
    """
    raw = {}
    with path.open("rb") as file:
        for extension, (offset, size) in index.members.items():
            file.seek(offset)
            raw[extension] = file.read(size)
    where = f"{path}: sample {index.key!r}"
    try:
        label, meta = int(raw["cls"]), json.loads(raw["json"])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: its cls or json member cannot be read ({error})") from error
    if not isinstance(meta, dict):
        raise InputError(f"{where}: its json member is no object")
    clean, adversarial = (decode_stored(raw[name], where) for name in ("clean.png", "adv.png"))
    if clean.shape != adversarial.shape:
        raise InputError(f"{where}: clean and adversarial image differ in size")
    return Sample(index.key, clean, adversarial, label, meta)


def read_shard(path: Path) -> Iterator[Sample]:
    """Read every sample of a shard in order (see `index_shard` and `read_sample`)."""
    for index in index_shard(path):
        yield read_sample(path, index)
