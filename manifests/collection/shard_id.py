"""What shards and samples are called."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

SPLITS = ("train", "validation", "test")

MAX_SAMPLES = 1 << 16
"""In one shard: bounds the memory that an index takes."""

CLEAN = "clean"  # the "attack" of untouched pairs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SHARD = re.compile(r"[0-9]{6}|[1-9][0-9]{6,8}")  # as `ShardId` writes it
_IMAGENET_FILE = re.compile(r"(ILSVRC2012_(val|test|train)_\d{8}|n\d{8}_\d+)\.JPEG")


@dataclass(frozen=True, slots=True, order=True)
class ShardId:
    """What is made, committed and verified as one: a shard of one attack on a target's split."""

    target: str
    attack: str
    split: str
    number: int

    def __str__(self) -> str:
        return f"{self.target}/{self.attack}/{self.split}/{self.number:06d}"


def parse_shard_id(marker: str) -> ShardId | None:
    """The shard whose marker a path below a collection's root is; None for any other path."""
    parts = marker.removesuffix(".done.json").split("/")
    if len(parts) != 4 or not marker.endswith(".done.json"):
        return None
    target, attack, split, shard = parts
    known = _NAME.fullmatch(target) and _NAME.fullmatch(attack) and split in SPLITS
    return ShardId(target, attack, split, int(shard)) if known and _SHARD.fullmatch(shard) else None


def sample_stem(source_id: str) -> str:
    """Name an image in sample keys: ASCII, no dots, at most 37 bytes.

    ImageNet's own file names are unique already; any other name gets a hash of its whole path.
    """
    path = PurePosixPath(source_id)
    if _IMAGENET_FILE.fullmatch(path.name):
        return path.stem
    word = re.sub(r"[^A-Za-z0-9_-]+", "-", path.stem)[:26]
    return f"{word}-{hashlib.sha256(source_id.encode()).hexdigest()[:10]}"


def sample_key(target: str, attack: str, source_id: str) -> str:
    """Name a sample: ASCII, no dots, at most 89 bytes, unique in a collection (see `sample_stem`)."""
    return f"{target}__{attack}__{sample_stem(source_id)}"


def stem_of(key: str) -> str:
    """What the keys of one image have in common under all attacks on one target."""
    return key.rpartition("__")[2]
