import shutil

import pytest

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, sha256_file, write_json
from impure.manifests.base.parquet import read_table, write_table
from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.schema import PLAN
from impure.manifests.sharing import merge as merging
from impure.manifests.sharing.merge import merge


def files(root):
    """Name -> hash of all that a reader sees."""
    paths = [path for path in root.rglob("*") if path.is_file() and "_tmp" not in path.parts]
    return {str(path.relative_to(root)): sha256_file(path) for path in paths}


def edit_marker(committed, change):
    path = committed.stem.with_suffix(".done.json")
    write_json(path, change(read_json(path)))


def with_files_of(committed):
    """A change to a marker that makes it vouch for the files that are there now."""
    entries = {
        name: {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for name, path in (("tar", committed.tar), ("manifest", committed.manifest))
    }
    return lambda marker: marker | entries


def relabelled(collection, seed):
    """The first shard, as another run with another seed would have made it."""
    shard = collection.committed[0]
    table, config = shard.rows()
    config = config | {"seed": seed}
    write_table(shard.manifest, table, config)
    edit_marker(shard, with_files_of(shard))
    edit_marker(shard, lambda marker: marker | {"config": config, "config_digest": digest(config)})
    return shard


def test_a_merge_brings_all_that_is_not_there_byte_for_byte(into, other):
    before = files(other.root)
    steps = []
    done = merge(into, other, steps.append)
    assert sorted([*done.copied, *done.present]) == other.marked()
    assert {shard_id.split for shard_id in done.present} == {"train"}
    assert (done.bad, done.differing) == ((), ())
    assert sum(steps) == len(other.marked())
    merged = files(into.root)
    assert files(other.root) == before
    assert {name: value for name, value in merged.items() if name != "collection.json"} == {
        name: value for name, value in before.items() if name != "collection.json"
    }
    assert into.about()["plans"] == other.about()["plans"]
    assert into.about()["software"] == {"torch": "ours"}
    assert verify(Collection(into.root), "decode") == []
    assert list((into.root / "_tmp").glob("*/*")) == []
    assert not any(path.samefile(other.root / name) for name, path in
                   ((name, into.root / name) for name in merged))  # fmt: skip


def test_a_folder_that_does_not_exist_becomes_a_copy_and_again_is_a_no_op(tmp_path, other):
    new = Collection(tmp_path / "deep" / "new")
    assert len(merge(new, other).copied) == len(other.marked())
    assert files(new.root) == files(other.root)
    assert merge(new, other).copied == ()
    assert files(new.root) == files(other.root)


def test_bad_shards_are_named_and_left_out(into, other):
    shards = [shard for shard in other.committed if shard.shard_id.split == "test"]
    flipped = bytearray(shards[0].tar.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    shards[0].tar.write_bytes(flipped)
    shards[1].tar.write_bytes(shards[1].tar.read_bytes()[:-512])
    shards[2].manifest.unlink()
    shards[3].stem.with_suffix(".done.json").write_text("{")
    done = merge(into, other)
    assert sorted(finding.shard_id for finding in done.bad) == sorted(
        str(shard.shard_id) for shard in shards[:4]
    )
    assert not {shard.shard_id for shard in shards[:4]} & set(into.marked())
    assert len(into.marked()) == len(other.marked()) - 4
    problems = {finding.shard_id: finding.problem for finding in done.bad}
    assert "SHA-256" in problems[str(shards[0].shard_id)]
    assert "bytes" in problems[str(shards[1].shard_id)]
    assert list((into.root / "_tmp").glob("*/*")) == []


def test_a_manifest_of_another_shard_is_left_out_even_if_the_marker_agrees(into, other):
    first, second = [shard for shard in other.committed if shard.shard_id.split == "test"][:2]
    shutil.copy(second.manifest, first.manifest)
    edit_marker(first, with_files_of(first))
    (bad,) = merge(into, other).bad
    assert bad.shard_id == str(first.shard_id)
    assert "manifest" in bad.problem


def test_shards_without_a_sound_plan_are_left_out(into, other):
    other.plan_path("small", "test").unlink()
    other.plan_path("small", "validation").write_bytes(b"junk")
    done = merge(into, other)
    assert {finding.shard_id.split("/")[2] for finding in done.bad if finding.shard_id != "plans"} == {
        "test",
        "validation",
    }
    assert "small-validation" in next(finding.problem for finding in done.bad if finding.shard_id == "plans")
    assert {shard_id.split for shard_id in into.marked()} == {"train"}


def test_another_config_is_refused_before_anything_changes(into, other):
    other_seed = relabelled(into, seed=7)
    before = files(into.root)
    with pytest.raises(InputError, match=rf"{other_seed.shard_id}\.tar.*seed \(there 7, now 0\)"):
        merge(into, other)
    assert files(into.root) == before


def test_another_plan_is_refused_before_anything_changes(into, other):
    path = into.plan_path("small", "train")
    table, config = read_table(path, PLAN)
    for changed, said in (((table, config | {"seed": 5}), "seed"), ((table.slice(1), config), "source_id")):
        write_table(path, *changed)
        before = files(into.root)
        with pytest.raises(InputError, match=rf"small-train\.parquet: another plan.*{said}"):
            merge(into, other)
        assert files(into.root) == before


def test_a_target_of_the_same_name_with_other_weights_is_refused(into, other):
    for split in ("test", "validation", "train"):
        path = other.plan_path("small", split)
        table, config = read_table(path, PLAN)
        write_table(path, table, config | {"target": config["target"] | {"weights": "others"}})
    other.plan_path("small", "train").unlink()
    with pytest.raises(InputError, match=r"another small.*weights"):
        merge(into, other)


def test_other_pixels_under_one_config_are_told(into, other):
    shard = next(shard for shard in other.committed if str(shard.shard_id) == "small/fgsm/train/000000")
    table, config = shard.rows()
    column = table.schema.get_field_index("adv_px_sha256")
    lied = table.set_column(column, table.schema.field(column), table["clean_px_sha256"])
    write_table(shard.manifest, lied, config)
    shard.tar.write_bytes(shard.tar.read_bytes() + bytes(1024))
    edit_marker(shard, with_files_of(shard))
    done = merge(into, other)
    assert done.bad == ()
    assert shard.shard_id in done.present
    assert [finding.shard_id for finding in done.differing] == [str(shard.shard_id)]
    assert f"{len(table)} of {len(table)} samples" in done.differing[0].problem


def test_a_sample_that_one_of_two_lacks_is_told(into, other):
    shard = next(shard for shard in other.committed if str(shard.shard_id) == "small/fgsm/train/000000")
    table, config = shard.rows()
    write_table(shard.manifest, table.slice(1), config)
    shard.tar.write_bytes(shard.tar.read_bytes() + bytes(1024))
    edit_marker(shard, with_files_of(shard))
    ours, theirs = into.read(shard.shard_id), Collection(other.root).read(shard.shard_id)
    (finding,) = merging._differing_pixels(ours, theirs)
    assert f"1 of {len(table)} samples have other pixels, such as {table['key'][0]}" in finding.problem


def test_another_tar_of_the_same_pixels_is_no_finding(into, other):
    shard = next(shard for shard in other.committed if shard.shard_id.split == "train")
    shard.tar.write_bytes(shard.tar.read_bytes() + bytes(1024))
    edit_marker(shard, with_files_of(shard))
    assert merge(into, other).differing == ()


def test_a_damaged_shard_is_replaced_by_a_whole_one(into, other):
    shard = into.committed[0]
    shard.tar.write_bytes(b"cut")
    assert shard.shard_id in merge(into, other).copied
    assert verify(Collection(into.root), "hash") == []


def test_shared_clean_images_come_first_or_their_pairs_stay_away(into, other, monkeypatch):
    class CleanOnce:
        def images(self, attack):
            return ("clean",) if attack == "clean" else ("adv",)

    monkeypatch.setattr(CommittedShard, "storage", CleanOnce())
    lost = next(
        shard
        for shard in other.committed
        if shard.shard_id.attack == "clean" and shard.shard_id.split == "test"
    )
    lost.tar.write_bytes(bytes(lost.tar.stat().st_size))
    bad = {finding.shard_id: finding.problem for finding in merge(into, other).bad}
    shard = f"test/{lost.shard_id.number:06d}"
    assert set(bad) == {f"small/{attack}/{shard}" for attack in ("clean", "fgsm", "pgd")}
    assert "clean images are missing" in bad[f"small/pgd/{shard}"]


def test_what_is_no_other_collection_is_refused(into, tmp_path):
    with pytest.raises(InputError, match="itself"):
        merge(into, Collection(into.root / ".." / "into"))
    with pytest.raises(InputError, match="nowhere.*no committed shard"):
        merge(into, Collection(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
