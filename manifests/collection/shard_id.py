"""What a shard is called: one of an attack on a target's split."""

import re
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")

MAX_SAMPLES = 1 << 16
"""In one shard: bounds the memory that an index takes."""

CLEAN = "clean"  # the "attack" of untouched pairs

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_SHARD = re.compile(r"[0-9]{6}|[1-9][0-9]{6,8}")  # as `ShardId` writes it


@dataclass(frozen=True, slots=True, order=True)
class ShardId:
    """One unit of work and of storage: one shard of one attack on one target."""

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
