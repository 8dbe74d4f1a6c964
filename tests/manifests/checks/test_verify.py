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
    return [(found.unit, found.problem) for found in verify(Collection(root), level)]


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
    unit = first(root)
    data = bytearray(unit.tar.read_bytes())
    data[len(data) // 2] ^= 1
    unit.tar.write_bytes(data)
    assert problems(root, "size") == []
    ((name, problem),) = problems(root, "hash")
    assert name == str(unit.unit)
    assert "SHA-256" in problem


def test_a_tar_cut_at_a_member_boundary_is_found_even_if_the_marker_agrees(root):
    unit = first(root)
    with tarfile.open(unit.tar) as tar:
        last_sample = tar.getmembers()[-4].offset
    unit.tar.write_bytes(unit.tar.read_bytes()[:last_sample] + bytes(1024))
    assert "bytes" in problems(root, "size")[0][1]
    vouch_for(unit)
    assert "samples are in the manifest" in problems(root)[0][1]


def test_changed_pixels_are_found_even_if_the_marker_agrees(root):
    unit = first(root)
    sample = next(iter(read_shard(unit.tar)))
    inverted = encode_png(255 - sample.clean)
    rewrite(unit.tar, f"{sample.key}.clean.png", inverted)
    vouch_for(unit)
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
    units = Collection(root).committed
    units[0].tar.unlink()
    shutil.copy(units[2].manifest, units[1].manifest)
    shutil.copy(units[4].stem.with_suffix(".done.json"), units[3].stem.with_suffix(".done.json"))
    assert [name for name, _ in problems(root, "hash")] == [str(units[place].unit) for place in (0, 1, 3)]


def test_a_marker_that_is_no_marker_is_named(root):
    unit = first(root).unit
    marker = Collection(root).marker_path(unit)
    marker.write_text(json.dumps({"unit": 3}))
    assert [name for name, _ in problems(root)] == [str(unit)]
    for text in ("{", '{"seed": NaN}'):
        marker.write_text(text)
        assert [name for name, _ in problems(root)] == [str(unit)]
        with pytest.raises(InputError, match=r"done\.json"):
            select_shards(str(root))


def test_a_broken_plan_hides_nothing_else(root):
    first(root).tar.unlink()
    (root / "plans" / "small-train.parquet").write_bytes(b"junk")
    assert [name for name, _ in problems(root, "size")] == [str(first(root).unit), "plans"]


def test_a_budget_that_the_bytes_leave_is_found(root):
    unit = next(each for each in Collection(root).committed if each.unit.attack == "pgd")
    table, config = unit.rows()
    column = table.schema.get_field_index("eps_255")
    lied = table.set_column(column, table.schema.field(column), pa.array([1] * len(table), pa.int32()))
    write_table(unit.manifest, lied, config)
    vouch_for(unit)
    assert "budget of 1/255" in problems(root)[0][1]


def test_files_without_a_marker_are_never_read(root):
    unit = first(root)
    unit.stem.with_suffix(".done.json").unlink()
    assert unit.unit in Collection(root).missing()
    assert unit.unit not in [each.unit for each in select_shards(str(root))]
    assert unit.unit not in [each.unit for each in select_shards(f"{root}/*/*/*/*.tar")]


def test_selection_filters_and_names_what_is_not_there(root):
    assert {each.unit.attack for each in select_shards(str(root), attacks=["pgd"], splits=["test"])} == {
        "pgd"
    }
    assert {each.unit.split for each in select_shards(f"{root}/small/*/test/*.tar")} == {"test"}
    with pytest.raises(InputError, match="attack 'cw'.*clean, fgsm, pgd"):
        select_shards(str(root), attacks=["cw"])
    with pytest.raises(InputError, match="no such folder"):
        select_shards(f"{root}/nowhere")
