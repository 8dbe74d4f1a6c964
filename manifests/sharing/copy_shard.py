"""Copy one shard between local collections: every file checked by its hash, before and after."""

import shutil
from dataclasses import replace
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import sha256_file, sync
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import move_in
from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.collection.temp_dirs import temp_dir


def copy_shard(into: Collection, shard: CommittedShard, remedy: str) -> CommittedShard | None:
    """Copy a shard of another collection and commit it.

    Args:
        into: Where to.
        shard: The other collection's.
        remedy: What helps against another config, for the error message.

    Returns:
        None; or where another process was first, its shard.

    Raises:
        InputError: The shard cannot be read whole, or another process was first and used another config.
        OSError: The copy cannot be written.
    """
    _check_clean_images(into, shard)
    with temp_dir(into, str(shard.shard_id)) as folder:
        tar = folder / "shard.tar"
        manifest = folder / "manifest.parquet"
        _copy_checked(shard.tar, tar, shard.marker["tar"]["sha256"])
        _copy_checked(shard.manifest, manifest, shard.marker["manifest"]["sha256"])
        in_force = move_in(into, shard.shard_id, tar, manifest, shard.marker, remedy)
    return None if in_force is shard.marker else into.read(shard.shard_id)


def _check_clean_images(into: Collection, shard: CommittedShard) -> None:
    """Refuse a shard whose clean images lie in a clean shard that `into` does not have."""
    images = shard.storage.images(shard.shard_id.attack)
    clean_shard = replace(shard.shard_id, attack=CLEAN)
    if "adv" in images and "clean" not in images and not into.marker_path(clean_shard).is_file():
        raise InputError(f"its clean images are missing, {clean_shard}")


def _copy_checked(source: Path, copy: Path, sha256: str) -> None:
    """Copy a file whose SHA-256 is known, and read the copy back.

    Raises:
        InputError: The source cannot be read, or it or the copy has another hash.
        OSError: The copy cannot be written.
    """
    try:
        actual = sha256_file(source)  # read first: an error here is the source's alone, a later one is ours
    except OSError as error:
        raise InputError(f"{source.name} cannot be read ({error.strerror or error})") from error
    if actual != sha256:
        raise InputError(f"{source.name} has another SHA-256 than the marker says")
    shutil.copyfile(source, copy)
    sync(copy)
    if sha256_file(copy) != sha256:
        raise InputError(f"{source.name} changed while it was copied; check disk and memory")
