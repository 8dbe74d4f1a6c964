"""Repair: make damaged shards of a collection again, as their markers say they were made."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import torch

from impure.manifests.base.canonical_json import digest, from_mapping
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import disk_errors_named
from impure.manifests.base.logs import new_run_id
from impure.manifests.checks.verify import Finding, verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.marker import ShardConfig
from impure.manifests.collection.shard_id import CLEAN, ShardId, parse_shard_id
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.storage_profiles import CLEAN_ONCE
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.compiled_target import CompiledTarget
from impure.pipeline.devices import cores
from impure.pipeline.executors.inline import run_inline
from impure.pipeline.executors.task_queue import TaskQueue
from impure.pipeline.generation.attack_job import AttackJob
from impure.pipeline.generation.clean_cache import lost_images
from impure.pipeline.generation.events import Emit, ShardTask
from impure.pipeline.generation.worker import ShardWorker
from impure.pipeline.sources.source import Source
from impure.pipeline.targets.target import Target

_KINDS = {
    "attack": dict,
    "seed": int,
    "batch_size": int,
    "memory_format": str,
    "compiled": bool,
    "storage": dict,
}
"""What a shard is made by, beside its plan and target."""


def bad_shards(findings: Sequence[Finding]) -> list[ShardId]:
    """The shards in which something was found; what is wrong with plans is no shard's."""
    named = (parse_shard_id(f"{finding.shard_id}.done.json") for finding in findings)
    return [shard_id for shard_id in named if shard_id]


def shards_to_make(collection: Collection, findings: Sequence[Finding]) -> list[ShardId]:
    """The bad shards, but for those whose own files are whole and that only lack their clean images.

    Where clean images are stored once, a damaged clean shard spoils all attacks on it, and mends them too.
    """
    shard_ids = bad_shards(findings)
    clean = {_images_of(shard_id) for shard_id in shard_ids if shard_id.attack == CLEAN}
    dependent = {
        shard.shard_id for shard in collection.readable()
        if _images_of(shard.shard_id) in clean and shard.shard_id.attack != CLEAN
        and shard.storage.profile == CLEAN_ONCE
    }  # fmt: skip
    damaged = set(bad_shards(verify(collection, "hash"))) if dependent else set()
    return [shard_id for shard_id in shard_ids if shard_id not in dependent or shard_id in damaged]


def _invalidate(collection: Collection, shard_id: ShardId) -> None:
    """Make a shard count as not made; a marker that says how it was made stays until the new one comes."""
    if _sound_config(collection, shard_id) is None:
        collection.marker_path(shard_id).unlink(missing_ok=True)
    else:
        collection.stem(shard_id).with_suffix(".tar").unlink(missing_ok=True)


def _images_of(shard_id: ShardId) -> tuple[str, str, int]:
    """What the shards of all attacks on one set of images have in common."""
    return shard_id.target, shard_id.split, shard_id.number


def repair(
    collection: Collection,
    shard_ids: Sequence[ShardId],
    source: Source,
    targets: Mapping[str, Target],
    listener: Emit,
) -> dict[ShardId, str]:
    """Make shards again, each as its own marker says, or, where that is lost, another one's of its attack.

    Args:
        collection: To mend.
        shard_ids: Which; others are not touched.
        source: The clean images.
        targets: By name.
        listener: Gets the events.

    Returns:
        Shards that could not be made, and why.

    Raises:
        InputError: Nothing says how a shard was made; its target, plan or images are not there; nothing was
            changed.
    """
    tasks = repair_tasks(collection, shard_ids)
    jobs = [job_of(collection, shard_id, source, targets) for shard_id in shard_ids]
    _check_images(collection, shard_ids, jobs)
    failed: dict[ShardId, str] = {}
    for shard_id, job, task in zip(shard_ids, jobs, tasks, strict=True):
        torch.set_num_threads(job.plan.config["threads"])  # as the collection was begun
        _invalidate(collection, shard_id)
        queue = TaskQueue([task], listener)
        with disk_errors_named(collection.root):
            run_inline(partial(ShardWorker, {shard_id.split: [job]}, cores()), queue)
        failed |= queue.failed
    return failed


def repair_tasks(collection: Collection, shard_ids: Sequence[ShardId]) -> list[ShardTask]:
    """A task for each shard; without images where its plan is lost."""
    plans = {
        (shard_id.target, shard_id.split): collection.plan(shard_id.target, shard_id.split)
        for shard_id in shard_ids
    }
    tasks = []
    for shard_id in shard_ids:
        plan = plans[shard_id.target, shard_id.split]
        images = 0 if plan is None else len(plan.rows_of(shard_id.number))
        tasks.append(ShardTask(shard_id.target, shard_id.split, shard_id.number, (shard_id.attack,), images))
    return tasks


def _check_images(collection: Collection, shard_ids: Sequence[ShardId], jobs: Sequence[AttackJob]) -> None:
    """Refuse images that would leave shards with fewer samples than they had.

    Raises:
        InputError: Planned images are missing or have changed; the message names one.
    """
    lost_before = {shard.shard_id: shard.marker["counts"]["failed"] for shard in collection.readable()}
    lost_now: dict[tuple[str, str, int], dict[str, str]] = {}
    with ThreadPoolExecutor(cores()) as pool:
        for shard_id, job in zip(shard_ids, jobs, strict=True):
            if _images_of(shard_id) not in lost_now:
                lost_now[_images_of(shard_id)] = lost_images(job, job.plan.rows_of(shard_id.number), pool)
            lost = lost_now[_images_of(shard_id)]
            if len(lost) > lost_before.get(shard_id, 0):
                source_id, reason = next(iter(lost.items()))
                raise InputError(
                    f"{shard_id}: {len(lost)} of its images are not those that were planned, such as "
                    f"{source_id} ({reason}); give the same --images, or run its generate command"
                )


def job_of(
    collection: Collection, shard_id: ShardId, source: Source, targets: Mapping[str, Target]
) -> AttackJob:
    """The job that a shard was made by.

    Raises:
        InputError: Nothing says it; its target or plan is not there.
    """
    where = f"{shard_id}: its config"
    config = checked(config_of(collection, shard_id), where)
    plan = collection.plan(shard_id.target, shard_id.split)
    if plan is None:
        raise InputError(f"{shard_id}: its plan is lost; sample again into another --out")
    if shard_id.target not in targets:
        raise InputError(f"{shard_id}: give its target with --target card.json or timm:NAME")
    target = targets[shard_id.target]
    if config["target"]["weights"] != target.weights_sha256:
        raise InputError(f"{shard_id}: was made on {shard_id.target!r} with other weights; give the same")
    attack = attack_of(config, where)
    return AttackJob(
        collection=collection, source=source, target=target, plan=plan, run_id=new_run_id(),
        attack=attack,
        seed=config["seed"], batch_size=config["batch_size"],
        compiled=compiled_of(config, attack, target, config["batch_size"]),
        storage=from_mapping(Storage, config["storage"], where),
    )  # fmt: skip


def checked(config: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """A config that says all that a shard is made by; check it, as anybody may have written it.

    Raises:
        InputError: Something is missing or of the wrong kind.
    """
    for name, kind in _KINDS.items():
        if type(config.get(name)) is not kind:
            raise InputError(f"{where}: {name} is missing or of the wrong kind; run its generate command")
    return config


def attack_of(config: Mapping[str, Any], where: str) -> AttackConfig | None:
    """The attack in a shard's config; None for the untouched pairs.

    Raises:
        InputError: There is no such attack.
    """
    fields = {name: value for name, value in config["attack"].items() if name != "params"}
    return None if fields.get("name") == CLEAN else from_mapping(AttackConfig, fields, where)


def compiled_of(
    config: Mapping[str, Any], attack: AttackConfig | None, target: Target, batch_size: int
) -> CompiledTarget | None:
    """The compiled target that a shard's config says it was attacked through; None for the target itself."""
    if attack is None or not (config["compiled"] and attack.compilable):
        return None
    return CompiledTarget(target, batch_size, attack.precision)


def config_of(collection: Collection, shard_id: ShardId) -> ShardConfig:
    """The config that a shard was made with, by its own marker or that of another shard of its attack.

    Raises:
        InputError: No marker is left, or they contradict each other.
    """
    if own := _sound_config(collection, shard_id):
        return own
    configs = {}
    for other in collection.marked():
        if (other.target, other.attack) == (shard_id.target, shard_id.attack) and other != shard_id:
            if config := _sound_config(collection, other):
                configs[digest({**config, "plan": ""})] = config
    if len(configs) != 1:
        what = "no marker says" if not configs else "other shards contradict each other about"
        raise InputError(f"{shard_id}: {what} how it was made; run its generate command")
    return next(iter(configs.values()))


def _sound_config(collection: Collection, shard_id: ShardId) -> ShardConfig | None:
    """The config in a shard's marker; None where the marker is lost, another shard's, or was edited."""
    with suppress(InputError):
        marker = collection.read(shard_id).marker
        if marker["shard_id"] == str(shard_id) and marker["config_digest"] == digest(marker["config"]):
            return marker["config"]
    return None
