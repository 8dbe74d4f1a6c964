"""Bring the units of one collection into another: whole ones only, checked by their hashes, marker last."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from impure.manifests.base.canonical_json import differing_fields
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import move_into_place, sha256_file, sync
from impure.manifests.checks.consistency import shard_problems
from impure.manifests.checks.verify import Finding
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import find_committed, move_in
from impure.manifests.collection.plan import FrozenPlan, plan_differences, read_plans
from impure.manifests.collection.shard_id import CLEAN, ShardId
from impure.manifests.collection.shard_lock import commit_lock
from impure.manifests.collection.storage import storage_of
from impure.manifests.collection.temp_dirs import sweep, temp_dir

REMEDY = "nothing was merged into it; keep the two collections apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge came to.

    Attributes:
        copied: Shards that were brought in.
        there: Shards that were there already, made with the same config.
        bad: Units of the other collection that were left out, and why.
        differing: Shards in both, of one config, whose pixels differ all the same; that of `into` was kept.
    """

    copied: tuple[ShardId, ...]
    there: tuple[ShardId, ...]
    bad: tuple[Finding, ...]
    differing: tuple[Finding, ...]


def merge(
    into: Collection, other: Collection, progress: Callable[[int], object] = lambda count: None
) -> Merged:
    """Bring every committed unit of `other`, with its plans, into `into`.

    Nothing is changed before everything has been found to fit. Killed at any moment, the same call goes on.
    Shards that are there already are compared by their markers; `verify` looks at their bytes.

    Args:
        into: What grows; may be empty or not exist.
        other: What is read; never changed.
        progress: Called with the number of units of `other` that are done.

    Raises:
        InputError: They are the same, `other` holds no shard, `into` a broken plan, or a plan, a target or a
            shard is in both and differs (the message names the fields).
        OSError: A disk is full or broken.
    """
    if into.root.resolve() == other.root.resolve():
        raise InputError(f"{into.root}: cannot be merged with itself; give two collections")
    theirs, problems = _sound_plans(other)
    ours = _plans_beside(into, theirs)
    shards, left_out = _usable(other, theirs | ours)
    shards.sort(key=lambda each: each.shard_id.attack != CLEAN)  # others may need the clean images
    held = {
        each.shard_id: find_committed(into, each.shard_id, each.marker["config"], REMEDY) for each in shards
    }
    sweep(into)
    _bring_plans(into, theirs)
    progress(len(left_out))
    bad = [*(Finding("plans", problem) for problem in problems), *left_out]
    copied: list[ShardId] = []
    there: list[ShardId] = []
    differing: list[Finding] = []
    for each in shards:
        try:
            ours_too = held[each.shard_id] or _bring(into, each)
            (there if ours_too else copied).append(each.shard_id)
            differing += _differing_pixels(ours_too, each) if ours_too else []
        except InputError as error:
            bad.append(Finding(str(each.shard_id), str(error)))
        progress(1)
    _describe(into, other)
    return Merged(copied=tuple(copied), there=tuple(there), bad=tuple(bad), differing=tuple(differing))


def _sound_plans(collection: Collection) -> tuple[dict[str, FrozenPlan], list[str]]:
    """The plans that can be read, and what is wrong with the others."""
    plans, problems = read_plans(collection.plan_paths())
    return {name: plan for name, plan in plans.items() if plan is not None}, problems


def _plans_beside(into: Collection, theirs: Mapping[str, FrozenPlan]) -> dict[str, FrozenPlan]:
    """The plans of `into`, where none contradicts another collection's.

    Raises:
        InputError: One cannot be read, or a plan or a target is in both and differs.
    """
    ours, problems = _sound_plans(into)
    if problems:
        raise InputError(problems[0])
    for mine, plan in product(ours.values(), theirs.values()):
        if mine.name == plan.name and (fields := plan_differences(plan, mine)):
            raise InputError(f"{mine.path}: another plan than {plan.path}: {'; '.join(fields)}; {REMEDY}")
        # Other splits share the target: its name must mean the same network.
        identities = plan.config["target"], mine.config["target"]
        if mine.target == plan.target and (fields := differing_fields(*identities)):
            both = f"{mine.path}: drawn for another {mine.target} than {plan.path}"
            raise InputError(f"{both}: {'; '.join(fields)}; {REMEDY}")
    return ours


def _usable(other: Collection, plans: Mapping[str, FrozenPlan]) -> tuple[list[CommittedShard], list[Finding]]:
    """The units of `other` that may be copied, as far as a cheap look tells, and what is wrong with the rest.

    Raises:
        InputError: There is no shard at all.
    """
    marked = other.marked()
    if not marked:
        raise InputError(f"{other.root}: no committed shard there; give the root of a collection")
    shards, bad = [], []
    for shard_id in marked:
        try:
            committed = other.read(shard_id)
            problem = next(shard_problems(committed, plans), None)
        except (InputError, OSError) as error:
            problem = str(error)
        if problem is None:
            shards.append(committed)
        else:
            bad.append(Finding(str(shard_id), problem))
    return shards, bad


def _bring_plans(into: Collection, plans: Mapping[str, FrozenPlan]) -> None:
    """Copy the plans that are not there yet.

    Raises:
        InputError: Another process has meanwhile put contradicting ones there.
    """
    with temp_dir(into, "plans") as folder:
        for plan in plans.values():
            shutil.copyfile(plan.path, folder / plan.path.name)
        with commit_lock(into):
            there = _plans_beside(into, plans)
            for plan in plans.values():
                final = into.plan_path(plan.target, plan.split)
                if plan.name not in there:
                    move_into_place(folder / plan.path.name, final)


def _bring(into: Collection, each: CommittedShard) -> CommittedShard | None:
    """Copy one shard; where another process was first, its shard.

    Raises:
        InputError: The shard cannot be had whole, or another process was first and used another config.
    """
    _check_clean(into, each)
    with temp_dir(into, str(each.shard_id)) as folder:
        tar, manifest = folder / "shard.tar", folder / "manifest.parquet"
        _copy_checked(each.tar, tar, each.marker["tar"]["sha256"])
        _copy_checked(each.manifest, manifest, each.marker["manifest"]["sha256"])
        in_force = move_in(into, each.shard_id, tar, manifest, each.marker, REMEDY)
    return None if in_force is each.marker else into.read(each.shard_id)


def _check_clean(into: Collection, each: CommittedShard) -> None:
    """Refuse a shard whose clean images lie in a clean shard that `into` does not have."""
    images = storage_of(each).images(each.shard_id.attack)
    clean = replace(each.shard_id, attack=CLEAN)
    if "adv" in images and "clean" not in images and not into.marker_path(clean).is_file():
        raise InputError(f"its clean images are missing, {clean}")


def _copy_checked(source: Path, copy: Path, sha256: str) -> None:
    """Copy a file whose SHA-256 is known, and read the copy back.

    Raises:
        InputError: The source cannot be read, or it or the copy has another hash.
        OSError: The copy cannot be written.
    """
    try:
        found = sha256_file(source)  # read first: an error here is the source's alone, a later one is ours
    except OSError as error:
        raise InputError(f"{source.name} cannot be read ({error.strerror or error})") from error
    if found != sha256:
        raise InputError(f"{source.name} has another SHA-256 than the marker says")
    shutil.copyfile(source, copy)
    sync(copy)
    if sha256_file(copy) != sha256:
        raise InputError(f"{source.name} changed while it was copied; check disk and memory")


def _differing_pixels(ours: CommittedShard, theirs: CommittedShard) -> list[Finding]:
    """Say in how many samples two units of one config differ, if they do.

    Markers that name the same tar settle it. A tar may differ for its encoder's sake alone: then the pixels'
    hashes decide, which the manifests hold.
    """
    if ours.marker["tar"]["sha256"] == theirs.marker["tar"]["sha256"]:
        return []
    mine, other = _pixel_hashes(ours), _pixel_hashes(theirs)
    different = sorted(key for key in mine.keys() | other.keys() if mine.get(key) != other.get(key))
    if not different:
        return []
    problem = (
        f"made with the same config, but {len(different)} of {len(mine)} samples have other pixels, "
        f"such as {different[0]}; what was there is kept"
    )
    return [Finding(str(ours.shard_id), problem)]


def _pixel_hashes(committed: CommittedShard) -> dict[str, tuple[Any, ...]]:
    """Hashes of clean and adversarial pixels by sample, as the manifest says."""
    columns = ("status", "clean_px_sha256", "adv_px_sha256")
    return {str(row["key"]): tuple(row[name] for name in columns) for row in committed.rows()[0].to_pylist()}


def _describe(into: Collection, other: Collection) -> None:
    """Write collection.json anew; of the software only a run of the pipeline knows, so it is handed on."""
    with commit_lock(into):
        into.write_about(_software(into) or _software(other))


def _software(collection: Collection) -> dict[str, Any]:
    """What collection.json says of the software; nothing where it cannot be read: it is renewed anyway."""
    try:
        about = collection.about()
    except InputError:
        return {}
    return {"software": about["software"]} if "software" in about else {}
