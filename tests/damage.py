"""Ways to damage a small collection, each with what `verify` says of the shards that it hits."""

import json
import shutil
import tarfile

import pyarrow as pa

from impure.manifests.base.files import read_json, sha256_file, write_json
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.schema import MANIFEST
from impure.manifests.collection.shard_id import ShardId
from tests.common import files_of

FGSM = ShardId("small", "fgsm", "train", 1)
PGD, OTHER = ShardId("small", "pgd", "train", 0), ShardId("small", "pgd", "train", 1)


def stem(root, shard_id):
    return Collection(root).stem(shard_id)


def edit_marker(root, shard_id, **changes):
    path = Collection(root).marker_path(shard_id)
    marker = read_json(path)
    for keys, value in changes.items():
        *outer, last = keys.split("__")
        place = marker
        for key in outer:
            place = place[key]
        place[last] = value
    write_json(path, marker)


def edit_manifest(root, shard_id, change, config=None):
    """Let `change` edit the rows, and hash everything again: only the target itself could tell."""
    committed = Collection(root).read(shard_id)
    table, said = committed.rows()
    facts = json.loads(table.schema.metadata[b"impure.facts"])
    rows = table.to_pylist()
    change(rows)
    write_table(committed.manifest, pa.Table.from_pylist(rows, schema=MANIFEST), config or said, facts)
    entry = {"sha256": sha256_file(committed.manifest), "bytes": committed.manifest.stat().st_size}
    edit_marker(root, shard_id, manifest=entry)


def truncate(root):
    path = stem(root, PGD).with_suffix(".tar")
    path.write_bytes(path.read_bytes()[:-3000])
    return {PGD: r"000000.tar has \d+ bytes, the marker says \d+"}


def truncate_between_samples(root):
    path = stem(root, PGD).with_suffix(".tar")
    with tarfile.open(path) as tar:
        boundary = tar.getmembers()[8].offset
    path.write_bytes(path.read_bytes()[:boundary])
    return {PGD: r"000000.tar has \d+ bytes, the marker says \d+"}


def flip(root):
    path = stem(root, PGD).with_suffix(".tar")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return {PGD: "000000.tar has another SHA-256 than the marker says"}


def delete_marker(root):
    stem(root, PGD).with_suffix(".done.json").unlink()
    return {PGD: "planned, but not committed; files without a marker lie there"}


def delete_tar(root):
    stem(root, PGD).with_suffix(".tar").unlink()
    return {PGD: "000000.tar is missing"}


def delete_shard(root):
    for name in files_of(PGD):
        (root / name).unlink()
    return {PGD: "planned, but not committed"}


def swap_manifests(root):
    one, two = (stem(root, shard_id).with_suffix(".parquet") for shard_id in (PGD, FGSM))
    one.rename(root / "aside")
    two.rename(one)
    (root / "aside").rename(two)
    return {FGSM: "000001.parquet has", PGD: "000000.parquet has"}


def edit_config(root):
    edit_marker(root, PGD, config__seed=7)
    return {PGD: "the marker is another shard's, or was edited"}


def edit_weights(root):
    edit_marker(root, PGD, config__target__weights="0" * 64)
    return {PGD: "the marker is another shard's, or was edited"}


def edit_counts(root):
    edit_marker(root, PGD, counts__succeeded=0)
    return {PGD: r"the marker says succeeded 0, in 000000.parquet it is \d"}


def edit_facts(root):
    edit_marker(root, PGD, attacked_together=[1])
    return {PGD: "attacked_together"}


def half_a_marker(root):
    path = stem(root, PGD).with_suffix(".done.json")
    path.write_bytes(path.read_bytes()[:100])
    return {PGD: "not a readable JSON"}


def storage_that_is_text(root):
    edit_marker(root, PGD, config__storage="pairs")
    return truncate(root) | {PGD: "its config.storage is missing or of the wrong kind"}


def copy_marker(root):
    shutil.copy(stem(root, OTHER).with_suffix(".done.json"), stem(root, PGD).with_suffix(".done.json"))
    return {PGD: "the marker is another shard's"}


def several(root):
    return flip(root) | {shard_id: problem for shard_id, problem in delete_other(root).items()}


def delete_other(root):
    stem(root, FGSM).with_suffix(".tar").unlink()
    return {FGSM: "000001.tar is missing"}


DAMAGES = (
    truncate, truncate_between_samples, flip, delete_marker, delete_tar, delete_shard, swap_manifests,
    edit_config, edit_weights, edit_counts, edit_facts, half_a_marker, storage_that_is_text, copy_marker,
    several,
)  # fmt: skip
