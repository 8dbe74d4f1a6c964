"""What a sample is called, in a tar and in a manifest."""

import hashlib
import re
from pathlib import PurePosixPath

_IMAGENET_FILE = re.compile(r"(ILSVRC2012_(val|test|train)_\d{8}|n\d{8}_\d+)\.JPEG")


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
