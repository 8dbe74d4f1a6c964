"""The completion marker of a shard: its typed parts, the check of one that was read, and the counts in it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

from impure.manifests.base.errors import InputError
from impure.manifests.base.tables import printable
from impure.manifests.collection.schema import STATUS_OK, UNREADABLE
from impure.manifests.collection.storage_profiles import ENCODING_NAMES, PROFILES

MAX_NUMBER = 1 << 53
"""Of a whole number in a marker: what any reader of JSON holds exactly."""

MAX_BYTES = 1 << 44
"""Of a shard's tar or manifest, as its marker says."""

MAX_TEXT = 4096
"""Characters of one text in a marker."""


class FileEntry(TypedDict):
    """What a marker says of a shard's tar or manifest."""

    bytes: int
    sha256: str


class Counts(TypedDict):
    """Images of a shard: planned, stored, failed since, fooling the target; and unreadable when drawn."""

    planned: int
    stored: int
    failed: int
    succeeded: int
    unreadable: NotRequired[int]


class StorageEntry(TypedDict):
    """How a shard's images are stored: a key of `PROFILES`, one of `ENCODING_NAMES`."""

    profile: str
    encoding: str


class TargetEntry(TypedDict):
    """The identity of a target; its card's other fields stand there too."""

    weights: str
    wnids: list[str]
    num_classes: int


class ShardConfig(TypedDict):
    """What decided a shard's pixels."""

    target: TargetEntry
    storage: StorageEntry
    plan: NotRequired[str]
    attack: NotRequired[dict[str, Any]]
    seed: NotRequired[int]
    batch_size: NotRequired[int]
    memory_format: NotRequired[str]
    compiled: NotRequired[bool]
    schema_version: NotRequired[int]


class Marker(TypedDict):
    """The content of a completion marker; what is not required is recorded, but nothing relies on it."""

    shard_id: str
    config: ShardConfig
    config_digest: str
    tar: FileEntry
    manifest: FileEntry
    counts: Counts
    schema_version: NotRequired[int]
    run_id: NotRequired[str]
    attacked_together: NotRequired[list[int]]
    threads: NotRequired[int]
    device: NotRequired[str]
    software: NotRequired[dict[str, str]]
    seconds: NotRequired[float]


_KINDS: dict[str, type] = {
    "shard_id": str,
    "config_digest": str,
    "config": dict,
    "config.target": dict,
    "config.target.weights": str,
    "config.target.wnids": list,
    "config.target.num_classes": int,
    "config.storage": dict,
    "config.storage.profile": str,
    "config.storage.encoding": str,
    "tar": dict,
    "tar.bytes": int,
    "tar.sha256": str,
    "manifest": dict,
    "manifest.bytes": int,
    "manifest.sha256": str,
    "counts": dict,
    "counts.planned": int,
    "counts.stored": int,
    "counts.failed": int,
    "counts.succeeded": int,
}

_OPTIONAL: dict[str, tuple[type, ...]] = {
    "schema_version": (int,),
    "run_id": (str,),
    "attacked_together": (list,),
    "threads": (int,),
    "device": (str,),
    "software": (dict,),
    "seconds": (int, float),
    "config.schema_version": (int,),
    "config.plan": (str,),
    "config.seed": (int,),
    "config.batch_size": (int,),
    "config.memory_format": (str,),
    "config.compiled": (bool,),
    "config.attack": (dict,),
    "config.attack.name": (str,),
    "config.attack.params": (dict,),
    "config.attack.eps_255": (int,),
    "config.attack.preset": (str,),
    "config.attack.implementation": (str,),
    "config.attack.overrides": (list,),
    "config.attack.targeted": (str, type(None)),
    "config.attack.restarts": (int,),
    "config.attack.precision": (str,),
    "config.target.name": (str,),
    "config.target.architecture": (str,),
}


def check_marker(value: Mapping[str, Any], where: str) -> Marker:
    """Check a marker that anybody may have written, so that nobody after has to.

    Args:
        value: The parsed JSON.
        where: Its file, for the error message.

    Raises:
        InputError: Something that readers rely on is missing, of the wrong kind, negative or out of bounds.
    """
    problem = next(_problems(value), None)
    if problem is not None:
        raise InputError(f"{where}: its {problem}; delete it and generate again")
    return cast(Marker, value)


def _problems(value: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a marker; outer things before those that lie in them."""
    for keys, kind in _KINDS.items():
        part: Any = value
        for key in keys.split("."):
            part = part.get(key)
        if type(part) is not kind:
            yield f"{keys} is missing or of the wrong kind"
        elif isinstance(part, int) and not 0 <= part <= MAX_NUMBER:
            yield f"{keys} is no number that can be, it is {part}"
    for name in ("tar", "manifest"):
        if value[name]["bytes"] > MAX_BYTES:
            yield f"{name}.bytes is more than any shard has, {value[name]['bytes']}"
    yield from _optional_problems(value)
    if not all(type(count) is int and 0 <= count <= MAX_NUMBER for count in value["counts"].values()):
        yield "counts are no counts"
    if not all(type(wnid) is str for wnid in value["config"]["target"]["wnids"]):
        yield "config.target.wnids are no names"
    storage = value["config"]["storage"]
    if storage["profile"] not in PROFILES or storage["encoding"] not in ENCODING_NAMES or len(storage) != 2:
        yield f"config.storage is none of {', '.join(PROFILES)} in {' or '.join(ENCODING_NAMES)}"
    yield from _extent_problems(value)


def _optional_problems(value: Mapping[str, Any]) -> Iterator[str]:
    """What is of the wrong kind among the parts that may be missing."""
    for keys, kinds in _OPTIONAL.items():
        *parents, last = keys.split(".")
        part: Any = value
        for key in parents:
            part = part.get(key, {})
        if last in part and type(part[last]) not in kinds:
            yield f"{keys} is of the wrong kind"
    if not all(type(version) is str for version in value.get("software", {}).values()):
        yield "software holds versions that are no text"
    if not all(type(count) is int and count > 0 for count in value.get("attacked_together", [])):
        yield "attacked_together is no list of counts"


def _extent_problems(value: Any, place: str = "") -> Iterator[str]:
    """Numbers, texts and keys that no marker of ours holds, however deep: `parse_object` limits that."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _extent_problems(key, f"keys in {place or 'the marker'}")
            yield from _extent_problems(part, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for part in value:
            yield from _extent_problems(part, place)
    elif isinstance(value, str) and (len(value) > MAX_TEXT or _steers(value)):
        yield f"{place} hold text that is too long or has control characters"
    elif isinstance(value, int) and abs(value) > MAX_NUMBER:
        yield f"{place} holds a number that is too large"


def _steers(text: str) -> bool:
    """Whether a text holds more control characters than line breaks."""
    plain = text.replace("\n", "")
    return printable(plain) != plain


def count_rows(rows: Sequence[Mapping[str, Any]]) -> Counts:
    """Count what became of the planned images.

    Args:
        rows: Of a manifest; `status` and `success` are looked at.
    """
    status = Counter(row["status"] for row in rows)
    planned = len(rows) - status[UNREADABLE]
    return {
        "planned": planned,
        "stored": status[STATUS_OK],
        "unreadable": status[UNREADABLE],
        "failed": planned - status[STATUS_OK],
        "succeeded": sum(bool(row["success"]) for row in rows if row["status"] == STATUS_OK),
    }


def add_counts(counts: Iterable[Counts]) -> Counts:
    """Counts of several shards, summed name by name."""
    total: Counts = {"planned": 0, "stored": 0, "unreadable": 0, "failed": 0, "succeeded": 0}
    for shard in counts:
        total["planned"] += shard["planned"]
        total["stored"] += shard["stored"]
        total["unreadable"] += shard.get("unreadable", 0)
        total["failed"] += shard["failed"]
        total["succeeded"] += shard["succeeded"]
    return total


def percent_fooled(counts: Counts) -> str:
    """Percentage of the stored images on which the target was fooled; a dash where none is stored."""
    return f"{100 * counts['succeeded'] / counts['stored']:.1f}" if counts["stored"] else "-"
