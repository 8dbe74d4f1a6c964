"""A valid tiny collection in any storage, written directly: what readers have to read."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.files import sha256_file, write_json
from impure.manifests.base.images import px_sha256
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.plan import plan_digest
from impure.manifests.collection.samples import Sample
from impure.manifests.collection.schema import MANIFEST, PLAN
from impure.manifests.collection.shard_id import CLEAN, ShardId
from impure.manifests.collection.storage import Storage
from impure.pipeline.sources.builtin_source import BuiltinSource
from impure.pipeline.sources.source import SourceImage

SIDE = 16
CARD = {
    "name": "toy", "architecture": "timm:none", "num_classes": 2, "wnids": ["a", "b"], "input_size": SIDE,
    "resize": SIDE, "crop": SIDE, "interpolation": "bilinear", "antialias": True, "mean": [0.5, 0.5, 0.5],
    "std": [1.0, 1.0, 1.0], "weights": "sha256 of the weights",
}  # fmt: skip


def photographs(count: int) -> list[SourceImage]:
    """A few drawn images, of several classes."""
    return BuiltinSource().images("val")[:: len(BuiltinSource().images("val")) // count][:count]


def pairs(attack: str, count: int = 4, most: int = 16) -> list[tuple[Sample, dict]]:
    """Samples and their manifest rows; the attack is noise."""
    found = []
    for index, image in enumerate(photographs(count)):
        clean = np.asarray(BuiltinSource().load(image, SIDE).picture)
        noise = np.random.default_rng(index).integers(-most, most + 1, clean.shape)
        attacked = clean if attack == CLEAN else np.clip(clean + noise, 0, 255).astype(np.uint8)
        change = attacked.astype(int) - clean
        row = {
            "key": f"toy__{attack}-e{most}__{image.source_id.rpartition('/')[2]}", "shard": 0,
            "index_in_shard": index, "source_id": image.source_id, "source_sha256": "", "split": "test",
            "label": index % 2, "wnid": "ab"[index % 2], "target": "toy", "attack": attack, "preset": "",
            "params_json": "{}", "implementation": "", "eps_255": most, "target_class": -1, "seed": 0,
            "width": SIDE, "height": SIDE,
            "clean_px_sha256": px_sha256(clean), "adv_px_sha256": px_sha256(attacked),
            "pred_clean": index % 2, "conf_clean": 0.9, "pred_adv_float": 1, "pred_adv": 1, "conf_adv": 0.5,
            "success": index % 2 == 0, "linf_255": int(abs(change).max()),
            "l2": float((change**2).sum() ** 0.5 / 255), "proposal_linf_255": 0.0, "grad_evals": 0,
            "status": "ok", "error": "", "run_id": "",
        }  # fmt: skip
        found.append((Sample(row["key"], clean, attacked, index % 2, {"key": row["key"]}), row))
    return found


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_shard(
    collection: Collection,
    shard_id: ShardId,
    made: list[tuple[Sample | None, dict]],
    config: dict,
    storage: Storage,
) -> None:
    """A shard with tar, manifest and marker."""
    stem = collection.stem(shard_id)
    stem.parent.mkdir(parents=True, exist_ok=True)
    samples = [sample for sample, _ in made if sample is not None]
    members = [member for sample in samples for member in storage.members(sample, shard_id.attack)]
    write_tar(stem.with_suffix(".tar"), members)
    table = pa.Table.from_pylist([row for _, row in made], schema=MANIFEST)
    write_table(stem.with_suffix(".parquet"), table, config)
    vouch(collection, shard_id, config, len(samples), len(made))


def vouch(collection: Collection, shard_id: ShardId, config: dict, stored: int, planned: int) -> None:
    """Write the marker of files that are there."""
    marker = {"shard_id": str(shard_id), "config": config, "config_digest": digest(config)}
    for name, ending in (("tar", ".tar"), ("manifest", ".parquet")):
        path = collection.stem(shard_id).with_suffix(ending)
        marker[name] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    counts = {"planned": planned, "stored": stored, "failed": planned - stored, "succeeded": stored // 2}
    write_json(collection.marker_path(shard_id), {**marker, "counts": counts})


def write_collection(root: Path, storage: Storage, attacks: tuple[str, ...] = (CLEAN, "pgd")) -> Collection:
    """One shard of four images for each attack, and the plan of them all."""
    collection = Collection(root)
    plan_path = collection.plan_path("toy", "test")
    plan_path.parent.mkdir(parents=True)
    rows = [{name: row[name] for name in PLAN.names} for _, row in pairs(CLEAN)]
    table = pa.Table.from_pylist(rows, schema=PLAN)
    counts = {"asked": 4, "misclassified": 0, "batch_size": 4, "threads": 1}
    drawn = {"target": CARD, "source": "builtin", **counts}
    write_table(plan_path, table, drawn)
    collection.write_about({})
    for attack in attacks:
        config = {
            "attack": {"name": attack}, "target": CARD, "storage": plain(storage),
            "plan": plan_digest(table, drawn),
        }  # fmt: skip
        write_shard(collection, ShardId("toy", attack, "test", 0), pairs(attack), config, storage)
    return collection


def plain(storage: Storage) -> dict[str, str]:
    return {"encoding": storage.encoding, "profile": storage.profile}


def members(made: list[tuple[Sample, dict]], storage: Storage, attack: str) -> list[tuple[str, bytes]]:
    return [member for sample, _ in made for member in storage.members(sample, attack)]
