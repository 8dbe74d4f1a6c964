"""Open a collection for reading, wherever it lies: in a folder, behind a glob of tars or at a URL."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from impure.manifests.base.files import writing
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_filter import select_shards
from impure.manifests.sharing.cache import is_url, open_cached_shards, split_url


def open_collection(
    shards: str | Path,
    *,
    targets: Sequence[str] = (),
    attacks: Sequence[str] = (),
    splits: Sequence[str] = (),
) -> list[CommittedShard]:
    """List a collection's committed shards; `PairDataset` reads their images.

    Args:
        shards: A collection's folder or URL (https://, s3://, hf://, ...), or a glob of its tars such as
            `ROOT/resnet101/*/train/*.tar`. Shards at a URL are kept in `cache_folder(shards)` once read.
        targets: Keep only the shards of these targets; empty keeps all.
        attacks: Keep only the shards of these attack variants; empty keeps all.
        splits: Keep only the shards of these splits; empty keeps all.

    Returns:
        The shards, ordered by target, attack, split and number; at least one.

    Raises:
        InputError: There is no such collection, or no shard passes the filters.
        RemoteError: The URL cannot be read.
        WriteError: The cache cannot be written.

    Example:
        >>> shards = open_collection("impure-data/builtin", splits=["train"])
    """
    if not is_url(str(shards)):
        return select_shards(str(shards), targets=targets, attacks=attacks, splits=splits)
    cache = cache_folder(str(shards))
    with writing(cache, "set IMPURE_CACHE to another folder"):
        cache.mkdir(parents=True, exist_ok=True)
    return open_cached_shards(str(shards), cache, targets=targets, attacks=attacks, splits=splits)


def cache_folder(url: str) -> Path:
    """The folder that keeps the shards read from a collection's URL."""
    return cache_home() / hashlib.sha256(os.fsencode(split_url(url)[0])).hexdigest()[:16]


def cache_home() -> Path:
    """Folder of all that can be downloaded or made again: `$IMPURE_CACHE`, else `~/.cache/impure`."""
    return Path(os.environ.get("IMPURE_CACHE") or Path.home() / ".cache" / "impure").absolute()
