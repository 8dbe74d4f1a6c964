"""Names of a collection's files: any other name, whoever lists it, is neither read nor written."""

import re

from impure.manifests.base.errors import InputError
from impure.manifests.collection.shard_id import SPLITS, parse_shard_id

SUMS = "SHA256SUMS"
ABOUT = "collection.json"
README, CROISSANT, PREVIEW = "README.md", "croissant.json", "preview.png"
INDICES = {split: f"{split}-index.json" for split in SPLITS}  # wids
KIT = (README, CROISSANT, PREVIEW, *INDICES.values(), SUMS)  # the last is written last

_PLAN = re.compile(rf"plans/[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}-({'|'.join(SPLITS)})\.parquet")
_SUM = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def is_plan(name: str) -> bool:
    """Whether a name below a collection's root is that of a plan."""
    return _PLAN.fullmatch(name) is not None


def is_own(name: str) -> bool:
    """Whether a name below a collection's root is one that a collection has."""
    stem, _, ending = name.partition(".")
    of_shard = ending in ("tar", "parquet", "done.json") and parse_shard_id(f"{stem}.done.json") is not None
    return of_shard or name == ABOUT or name in KIT or is_plan(name)


def parse_sums(text: str, where: str) -> dict[str, str]:
    """Read a SHA256SUMS file that anybody may have written: name -> hash.

    Names that lead nowhere bad, but that no collection has, are left out.

    Raises:
        InputError: A line is no sum, or a name leads out of the collection.
    """
    sums = {}
    for line in text.splitlines():
        match = _SUM.fullmatch(line)
        if match is None:
            raise InputError(f"{where}: not a list of SHA-256 sums, it has the line {line[:80]!r}")
        sha256, name = match.groups()
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise InputError(f"{where}: refused, {name[:80]!r} leads out of the collection")
        if is_own(name):
            sums[name] = sha256
    return sums
