"""Read samples out of WebDataset shards that somebody else may have made.

A shard is data and may be hostile: only the members named in `EXTENSIONS` are looked at, their sizes and
image dimensions are bounded before anything is decoded, names are only ever compared, never used as paths.
"""

import hashlib
import io
import json
import tarfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from impure.manifests.errors import InputError

Pixels = NDArray[np.uint8]

#: member extension -> largest size in bytes that is read
EXTENSIONS = {"clean.png": 1 << 26, "adv.png": 1 << 26, "cls": 16, "json": 1 << 16}
MAX_SIDE = 8192


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


def px_sha256(pixels: Pixels) -> str:
    """SHA-256 (hex) of uint8 RGB pixels, height x width x 3 in C order."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


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
    clean, adversarial = (decode_png(raw[name], where) for name in ("clean.png", "adv.png"))
    if clean.shape != adversarial.shape:
        raise InputError(f"{where}: clean and adversarial image differ in size")
    return Sample(index.key, clean, adversarial, label, meta)


def read_shard(path: Path) -> Iterator[Sample]:
    """Read every sample of a shard in order (see `index_shard` and `read_sample`)."""
    for index in index_shard(path):
        yield read_sample(path, index)


def decode_png(data: bytes, where: str) -> Pixels:
    """Decode a stored PNG to RGB pixels (H, W, 3).

    Raises:
        InputError: It is no PNG, is not 8-bit RGB, or a side is longer than `MAX_SIDE`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                if image.mode != "RGB" or max(image.size) > MAX_SIDE:
                    raise InputError(f"{where}: expected an RGB image of at most {MAX_SIDE} pixels a side")
                return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
        raise InputError(f"{where}: an image cannot be decoded ({error})") from error
