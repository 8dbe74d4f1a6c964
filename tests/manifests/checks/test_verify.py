import json
import shutil
import tarfile

import pyarrow as pa
import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, sha256_file, write_json
from impure.manifests.base.images import encode_png
from impure.manifests.base.parquet import write_table
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.samples import read_shard
from impure.manifests.collection.shard_filter import select_shards


@pytest.fixture
def root(collection_root, tmp_path):
    return shutil.copytree(collection_root, tmp_path / "copy")


def first(root):
    return Collection(root).committed[0]


def problems(root, level="decode"):
    return [(found.shard_id, found.problem) for found in verify(Collection(root), level)]


def vouch_for(committed):
    """Make the marker agree with changed files, as somebody who hides a change would."""
    marker = read_json(committed.stem.with_suffix(".done.json"))
    for name, path in (("tar", committed.tar), ("manifest", committed.manifest)):
        marker[name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
    write_json(committed.stem.with_suffix(".done.json"), marker)


@pytest.mark.parametrize("level", ["size", "hash", "decode"])
def test_an_untouched_collection_is_clean(root, level):
    assert problems(root, level) == []


def test_a_flipped_byte_is_found_by_its_hash(root):
    shard_id = first(root)
    data = bytearray(shard_id.tar.read_bytes())
    data[len(data) // 2] ^= 1
    shard_id.tar.write_bytes(data)
    assert problems(root, "size") == []
    ((name, problem),) = problems(root, "hash")
    assert name == str(shard_id.shard_id)
    assert "SHA-256" in problem


def test_a_tar_cut_at_a_member_boundary_is_found_even_if_the_marker_agrees(root):
    shard_id = first(root)
    with tarfile.open(shard_id.tar) as tar:
        last_sample = tar.getmembers()[-4].offset
    shard_id.tar.write_bytes(shard_id.tar.read_bytes()[:last_sample] + bytes(1024))
    assert "bytes" in problems(root, "size")[0][1]
    vouch_for(shard_id)
    assert "samples are in the manifest" in problems(root)[0][1]


def test_changed_pixels_are_found_even_if_the_marker_agrees(root):
    shard_id = first(root)
    sample = next(iter(read_shard(shard_id.tar)))
    inverted = encode_png(255 - sample.clean)
    rewrite(shard_id.tar, f"{sample.key}.clean.png", inverted)
    vouch_for(shard_id)
    ((_, problem),) = problems(root)
    assert sample.key in problem
    assert "clean_px_sha256" in problem


def rewrite(path, name, data):
    import io

    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar.getmembers()]
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for member, old in members:
            content = data if member.name == name else old
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def test_a_missing_file_a_swapped_manifest_and_a_foreign_marker_are_found(root):
    shards = Collection(root).committed
    shards[0].tar.unlink()
    shutil.copy(shards[2].manifest, shards[1].manifest)
    shutil.copy(shards[4].stem.with_suffix(".done.json"), shards[3].stem.with_suffix(".done.json"))
    assert [name for name, _ in problems(root, "hash")] == [
        str(shards[place].shard_id) for place in (0, 1, 3)
    ]


def test_a_marker_that_is_no_marker_is_named(root):
    shard_id = first(root).shard_id
    marker = Collection(root).marker_path(shard_id)
    marker.write_text(json.dumps({"shard_id": 3}))
    assert [name for name, _ in problems(root)] == [str(shard_id)]
    for text in ("{", '{"seed": NaN}'):
        marker.write_text(text)
        assert [name for name, _ in problems(root)] == [str(shard_id)]
        with pytest.raises(InputError, match=r"done\.json"):
            select_shards(str(root))


def test_a_broken_plan_hides_nothing_else(root):
    first(root).tar.unlink()
    (root / "plans" / "small-train.parquet").write_bytes(b"junk")
    assert [name for name, _ in problems(root, "size")] == [str(first(root).shard_id), "plans"]


def test_a_budget_that_the_bytes_leave_is_found(root):
    shard_id = next(each for each in Collection(root).committed if each.shard_id.attack == "pgd")
    table, config = shard_id.rows()
    column = table.schema.get_field_index("eps_255")
    lied = table.set_column(column, table.schema.field(column), pa.array([1] * len(table), pa.int32()))
    write_table(shard_id.manifest, lied, config)
    vouch_for(shard_id)
    assert "budget of 1/255" in problems(root)[0][1]


def test_files_without_a_marker_are_never_read(root):
    shard_id = first(root)
    shard_id.stem.with_suffix(".done.json").unlink()
    assert shard_id.shard_id in Collection(root).missing()
    assert shard_id.shard_id not in [each.shard_id for each in select_shards(str(root))]
    assert shard_id.shard_id not in [each.shard_id for each in select_shards(f"{root}/*/*/*/*.tar")]


def test_selection_filters_and_names_what_is_not_there(root):
    assert {each.shard_id.attack for each in select_shards(str(root), attacks=["pgd"], splits=["test"])} == {
        "pgd"
    }
    assert {each.shard_id.split for each in select_shards(f"{root}/small/*/test/*.tar")} == {"test"}
    with pytest.raises(InputError, match="attack 'cw'.*clean, fgsm, pgd"):
        select_shards(str(root), attacks=["cw"])
    with pytest.raises(InputError, match="no such folder"):
        select_shards(f"{root}/nowhere")
