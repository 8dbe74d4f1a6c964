"""Check that markers, manifests, plans and places agree with each other, without looking at pixels.

Cheap enough for every shard of a large collection: of a manifest only the footer and six columns are read.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from impure.manifests.base.canonical_json import differing_fields, digest, parse_object
from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.parquet import DIGEST_KEY, FACTS_KEY, parquet_file
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.marker import count_rows
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.schema import Row
from impure.manifests.collection.shard_id import ShardId, parse_shard_id

PLACE = ("target", "split", "shard")  # columns that are the same in every row of a manifest


def shard_problems(committed: CommittedShard, plans: Mapping[str, FrozenPlan | None]) -> Iterator[str]:
    """What is wrong with a shard before its pixels are looked at, cheapest checks first.

    Args:
        committed: The shard.
        plans: The collection's plans (see `plan.read_plans`).

    Raises:
        InputError: The manifest cannot be read.
    """
    marker = committed.marker
    if marker["shard_id"] != str(committed.shard_id) or marker["config_digest"] != digest(marker["config"]):
        yield "the marker is another shard's, or was edited"
    yield from _plan_problems(committed, plans)
    for path, entry in committed.files:
        if not path.is_file():
            yield f"{path.name} is missing"
        elif path.stat().st_size != entry["bytes"]:
            yield f"{path.name} has {path.stat().st_size} bytes, the marker says {entry['bytes']}"
    yield from _manifest_problems(
        committed, plans.get(f"{committed.shard_id.target}-{committed.shard_id.split}")
    )


def _plan_problems(committed: CommittedShard, plans: Mapping[str, FrozenPlan | None]) -> Iterator[str]:
    """Whether the shard was made by the collection's plan."""
    shard_id = committed.shard_id
    name = f"{shard_id.target}-{shard_id.split}"
    plan = plans.get(name)
    if name not in plans:
        yield f"its plan plans/{name}.parquet is missing"
    elif plan is not None and shard_id.number not in plan.shards:
        yield f"outside its plan: plans/{name}.parquet has no shard {shard_id.number}"
    elif plan is not None and committed.marker["config"].get("plan") != plan.digest:
        yield f"made by another plan than plans/{name}.parquet"


def _read_manifest(path: Path) -> tuple[pa.Table, Mapping[bytes, bytes]]:
    """The columns of a manifest that are compared, and its metadata."""
    try:
        with parquet_file(path) as data, pq.ParquetFile(data) as file:
            table = file.read(columns=[*PLACE, "source_id", "status", "success"])
            return table, file.schema_arrow.metadata or {}
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable manifest ({first_line(error)})") from error


def _manifest_problems(committed: CommittedShard, plan: FrozenPlan | None) -> Iterator[str]:
    """Whether the manifest is this shard's."""
    path, shard_id = committed.manifest, committed.shard_id
    table, metadata = _read_manifest(path)
    if metadata.get(DIGEST_KEY) != committed.marker["config_digest"].encode():
        yield f"{path.name} was made with another config than its marker says"
    places = table.group_by(list(PLACE)).aggregate([]).select(PLACE).to_pylist()
    own = (shard_id.target, shard_id.split, shard_id.number)
    if any(tuple(place.values()) != own for place in places):
        yield f"{path.name} is another shard's manifest"
    counts = committed.marker["counts"]
    if table.num_rows - counts["planned"] != counts.get("unreadable", 0):
        yield f"{path.name} has {table.num_rows} rows, the marker counts otherwise"
    if plan is not None and _source_ids(table.to_pylist()) != _source_ids(plan.rows_of(shard_id.number)):
        yield f"{path.name} does not list the images that its plan lists"
    for name, counted in count_rows(table.to_pylist()).items():
        if counts.get(name, 0) != counted:
            yield f"the marker says {name} {counts.get(name, 0)}, in {path.name} it is {counted}"
    for name, value in parse_object(metadata.get(FACTS_KEY, b"{}"), f"{path}: its facts").items():
        if committed.marker.get(name) != value:
            yield f"{name} in the marker is not what {path.name} records"


def _source_ids(rows: Sequence[Row]) -> list[str]:
    """The images that some rows are about, sorted."""
    return sorted(str(row["source_id"]) for row in rows)


def collection_problems(
    collection: Collection, plans: Mapping[str, FrozenPlan | None], marked: Sequence[ShardId]
) -> Iterator[tuple[str, str]]:
    """What is missing or left over in a collection as a whole.

    Args:
        collection: What to check.
        plans: Its plans (see `plan.read_plans`).
        marked: Its shards that have a marker.

    Yields:
        The shard or file, and what is wrong with it.
    """
    committed = set(marked)
    unmarked = set(_shards_with_files(collection)) - committed
    sound = [plan for plan in plans.values() if plan is not None]
    planned = {shard_id for plan in sound for shard_id in _planned_shards(collection, plan)} - committed
    for shard_id in sorted(planned | unmarked):
        left = "; files without a marker lie there and count for nothing" if shard_id in unmarked else ""
        yield str(shard_id), f"{'planned, but ' if shard_id in planned else ''}not committed{left}"
    yield from _target_problems(sound)
    yield from _about_problems(collection, plans)


def _target_problems(plans: Sequence[FrozenPlan]) -> Iterator[tuple[str, str]]:
    """Whether a target's name means the same network in all of its plans."""
    first: dict[str, FrozenPlan] = {}
    for plan in plans:
        other = first.setdefault(plan.target, plan)
        if fields := differing_fields(plan.config["target"], other.config["target"]):
            yield "plans", f"{plan.path}: another {plan.target} than in {other.path}: {'; '.join(fields)}"


def _about_problems(
    collection: Collection, plans: Mapping[str, FrozenPlan | None]
) -> Iterator[tuple[str, str]]:
    """Whether collection.json lists the collection's plans."""
    name = collection.about_path.name
    try:
        listed: Any = collection.about().get("plans")
    except InputError as error:
        yield name, str(error)
        return
    listed = listed if isinstance(listed, dict) else {}
    for plan_name in sorted(set(listed) | set(plans)):
        plan = plans.get(plan_name)
        if plan_name not in plans:
            yield name, f"lists plans/{plan_name}.parquet, which is missing"
        elif plan_name not in listed:
            yield name, f"does not list plans/{plan_name}.parquet"
        elif plan is not None and listed[plan_name] != plan.config:
            yield name, f"lists another plan than plans/{plan_name}.parquet"


def _begun_attacks(collection: Collection, plan: FrozenPlan) -> list[str]:
    """Attacks that have a folder for the plan's target and split."""
    folders = collection.root.glob(f"{plan.target}/*/{plan.split}")
    return sorted(folder.parent.name for folder in folders if folder.is_dir())


def _planned_shards(collection: Collection, plan: FrozenPlan) -> Iterator[ShardId]:
    """Shards that a plan asks for, of attacks that have been begun."""
    for attack in _begun_attacks(collection, plan):
        yield from (ShardId(plan.target, attack, plan.split, shard) for shard in plan.shards)


def _shards_with_files(collection: Collection) -> Iterator[ShardId]:
    """Shards of which files are there, with a marker or without."""
    for ending in ("tar", "parquet"):
        for path in collection.find(f"*/*/*.{ending}"):
            shard_id = parse_shard_id(path.relative_to(collection.root).with_suffix(".done.json").as_posix())
            if shard_id is not None:
                yield shard_id
