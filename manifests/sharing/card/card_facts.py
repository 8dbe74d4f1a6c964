"""Facts that a collection's card states: licence, title, sources, dates, which shards can be looked at."""

from collections.abc import Sequence
from typing import NamedTuple

from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import SPLITS
from impure.manifests.collection.storage_profiles import DELTA

DRAWN = "builtin"  # name of the image source that holds no photographs
IMAGENET_TERMS = "https://www.image-net.org/download.php"


class Licence(NamedTuple):
    """Under which terms a collection may be shared.

    Attributes:
        name: As Hugging Face spells it.
        url: Of its text.
        note: What it means for whoever has the collection.
    """

    name: str
    url: str
    note: str


_FREE = Licence(
    "apache-2.0",
    "https://www.apache.org/licenses/LICENSE-2.0",
    "The images are drawn by a program; they and their attacks are free under Apache-2.0.",
)
_PHOTOGRAPHS = Licence(
    "other",
    IMAGENET_TERMS,
    "The images come from ImageNet or a part of it, whose terms of access do not allow handing them "
    "on freely: non-commercial research and education only, by those who accepted the terms themselves "
    f"({IMAGENET_TERMS}). Keep this collection inside your lab, or gate it.",
)
_PERTURBATIONS = Licence(
    "other",
    IMAGENET_TERMS,
    "The shards hold perturbations, identifiers and hashes, but no photographs: "
    "`impure-data rebuild` makes the pairs from your own copy of ImageNet, for which ImageNet's terms of "
    f"access hold ({IMAGENET_TERMS}).",
)


def licence_of(shards: Sequence[CommittedShard]) -> Licence:
    """The licence that holds for all of some shards."""
    if sources_of(shards) == [DRAWN]:
        return _FREE
    return _PERTURBATIONS if all(shard.storage.profile == DELTA for shard in shards) else _PHOTOGRAPHS


def sources_of(shards: Sequence[CommittedShard]) -> list[str]:
    """Names of the image sources, each once."""
    one_of_each_plan = {(shard.shard_id.target, shard.shard_id.split): shard for shard in shards}
    return sorted({source for shard in one_of_each_plan.values() for source in shard.sources()})


def splits_of(shards: Sequence[CommittedShard]) -> list[str]:
    """The splits that have shards."""
    return [split for split in SPLITS if any(shard.shard_id.split == split for shard in shards)]


def with_images(shards: Sequence[CommittedShard]) -> list[CommittedShard]:
    """The shards that can be looked at: some sample is stored, and not as a perturbation alone."""
    return [shard for shard in shards if shard.marker["counts"]["stored"] and shard.storage.profile != DELTA]


def days_of(shards: Sequence[CommittedShard]) -> list[str]:
    """The days on which shards were made (YYYY-MM-DD), as their run ids begin (YYYYMMDD)."""
    days = {str(shard.marker.get("run_id", ""))[:8] for shard in shards}
    return [f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in sorted(days) if day.isdigit() and len(day) == 8]
