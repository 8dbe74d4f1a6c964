"""Merge one local collection into another: whole shards only, of plans and configs that agree."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from impure.manifests.base.canonical_json import differing_fields
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import move_into_place
from impure.manifests.checks.consistency import shard_problems
from impure.manifests.checks.verify import Finding
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import find_committed
from impure.manifests.collection.plan import FrozenPlan, plan_differences, read_plans
from impure.manifests.collection.shard_id import CLEAN, ShardId
from impure.manifests.collection.shard_lock import commit_lock
from impure.manifests.collection.temp_dirs import sweep, temp_dir
from impure.manifests.sharing.copy_shard import copy_shard

_REMEDY = "nothing was merged into it; keep the two collections apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a merge did.

    Attributes:
        copied: Shards that were copied.
        present: Shards that were in both, made with the same config.
        bad: Shards of the other collection that were left out, and why.
        differing: Shards in both, of one config, whose pixels differ all the same; that of `into` was kept.
    """

    copied: tuple[ShardId, ...]
    present: tuple[ShardId, ...]
    bad: tuple[Finding, ...]
    differing: tuple[Finding, ...]


def merge(
    into: Collection, other: Collection, progress: Callable[[int], object] = lambda count: None
) -> Merged:
    """Copy every committed shard of `other`, with its plans, into `into`.

    Nothing is changed before everything has been found to agree. Killed at any moment, the same call goes on.
    Shards that are in both are compared by their markers; `verify` looks at their bytes.

    Args:
        into: What grows; may be empty or not exist.
        other: What is read; never changed.
        progress: Called with the number of shards of `other` that are done.

    Raises:
        InputError: They are the same, `other` holds no shard, `into` a broken plan, or a plan, a target or a
            shard is in both and differs (the message names the fields).
        OSError: A disk is full or broken.
    """
    if into.root.resolve() == other.root.resolve():
        raise InputError(f"{into.root}: cannot be merged with itself; give two collections")
    theirs, plan_problems = _sound_plans(other)
    ours = _agreeing_plans(into, theirs)
    shards, left_out = _sound_shards(other, theirs | ours)
    held = {
        shard.shard_id: find_committed(into, shard.shard_id, shard.marker["config"], _REMEDY)
        for shard in shards
    }
    sweep(into)
    _copy_plans(into, theirs)
    progress(len(left_out))
    merged = _copy_shards(into, shards, held, progress)
    _renew_about(into, other)
    bad = (*(Finding("plans", problem) for problem in plan_problems), *left_out, *merged.bad)
    return replace(merged, bad=bad)


def _copy_shards(
    into: Collection,
    shards: Sequence[CommittedShard],
    held: Mapping[ShardId, CommittedShard | None],
    progress: Callable[[int], object],
) -> Merged:
    """Copy the shards that are not held already, and compare those that are."""
    copied: list[ShardId] = []
    present: list[ShardId] = []
    bad: list[Finding] = []
    differing: list[Finding] = []
    for shard in shards:
        try:
            held_shard = held[shard.shard_id] or copy_shard(into, shard, _REMEDY)
            (present if held_shard else copied).append(shard.shard_id)
            differing += _differing_pixels(held_shard, shard) if held_shard else []
        except InputError as error:
            bad.append(Finding(str(shard.shard_id), str(error)))
        progress(1)
    return Merged(copied=tuple(copied), present=tuple(present), bad=tuple(bad), differing=tuple(differing))


def _sound_plans(collection: Collection) -> tuple[dict[str, FrozenPlan], list[str]]:
    """The plans that can be read, and what is wrong with the others."""
    plans, problems = read_plans(collection.plan_paths())
    return {name: plan for name, plan in plans.items() if plan is not None}, problems


def _agreeing_plans(into: Collection, theirs: Mapping[str, FrozenPlan]) -> dict[str, FrozenPlan]:
    """The plans of `into`, where none contradicts another collection's.

    Raises:
        InputError: One cannot be read, or a plan or a target is in both and differs.
    """
    ours, problems = _sound_plans(into)
    if problems:
        raise InputError(problems[0])
    for mine, other in product(ours.values(), theirs.values()):
        _check_agreement(mine, other)
    return ours


def _check_agreement(mine: FrozenPlan, other: FrozenPlan) -> None:
    """Refuse two plans of one name that differ, or that mean different networks by one target's name."""
    if mine.name == other.name and (fields := plan_differences(other, mine)):
        raise InputError(f"{mine.path}: another plan than {other.path}: {'; '.join(fields)}; {_REMEDY}")
    if mine.target != other.target:
        return
    if fields := differing_fields(other.config["target"], mine.config["target"]):
        both = f"{mine.path}: drawn for another {mine.target} than {other.path}"
        raise InputError(f"{both}: {'; '.join(fields)}; {_REMEDY}")


def _sound_shards(
    other: Collection, plans: Mapping[str, FrozenPlan]
) -> tuple[list[CommittedShard], list[Finding]]:
    """The shards of `other` that may be copied, by a cheap check, and what is wrong with the rest.

    Those of clean images come first: others may need them.

    Raises:
        InputError: There is no shard at all.
    """
    marked = other.marked()
    if not marked:
        raise InputError(f"{other.root}: no committed shard there; give the root of a collection")
    shards: list[CommittedShard] = []
    bad: list[Finding] = []
    for shard_id in marked:
        try:
            shard = other.read(shard_id)
            problem = next(shard_problems(shard, plans), None)
        except (InputError, OSError) as error:
            problem = str(error)
        if problem is None:
            shards.append(shard)
        else:
            bad.append(Finding(str(shard_id), problem))
    return sorted(shards, key=lambda shard: shard.shard_id.attack != CLEAN), bad


def _copy_plans(into: Collection, plans: Mapping[str, FrozenPlan]) -> None:
    """Copy the plans that `into` does not have yet.

    Raises:
        InputError: Another process has meanwhile put contradicting ones there.
    """
    with temp_dir(into, "plans") as folder:
        for plan in plans.values():
            shutil.copyfile(plan.path, folder / plan.path.name)
        with commit_lock(into):
            held = _agreeing_plans(into, plans)
            for plan in plans.values():
                if plan.name not in held:
                    final = into.plan_path(plan.target, plan.split)
                    move_into_place(folder / plan.path.name, final)


def _differing_pixels(ours: CommittedShard, theirs: CommittedShard) -> list[Finding]:
    """Say in how many samples two shards of one config differ, if they do.

    Where the markers name the same tar, they do not. A tar may differ for its encoder's sake alone: then the
    pixels' hashes decide, which the manifests hold.
    """
    if ours.marker["tar"]["sha256"] == theirs.marker["tar"]["sha256"]:
        return []
    mine = _pixel_hashes(ours)
    other = _pixel_hashes(theirs)
    keys = mine.keys() | other.keys()
    different = sorted(key for key in keys if mine.get(key) != other.get(key))
    if not different:
        return []
    problem = (
        f"made with the same config, but {len(different)} of {len(keys)} samples have other pixels, "
        f"such as {different[0]}; what was there is kept"
    )
    return [Finding(str(ours.shard_id), problem)]


def _pixel_hashes(shard: CommittedShard) -> dict[str, tuple[Any, ...]]:
    """Hashes of clean and adversarial pixels by sample, as the manifest says."""
    columns = ("status", "clean_px_sha256", "adv_px_sha256")
    return {str(row["key"]): tuple(row[name] for name in columns) for row in shard.rows()[0].to_pylist()}


def _renew_about(into: Collection, other: Collection) -> None:
    """Write collection.json anew; only a run of the pipeline knows of the software, so that is copied."""
    with commit_lock(into):
        into.write_about(_software(into) or _software(other))


def _software(collection: Collection) -> dict[str, Any]:
    """What collection.json says of the software; nothing where it cannot be read: it is renewed anyway."""
    try:
        about = collection.about()
    except InputError:
        return {}
    return {"software": about["software"]} if "software" in about else {}
