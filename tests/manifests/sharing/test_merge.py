import errno
import itertools
import os
import shutil
import subprocess
import sys

import pytest

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, sha256_file, write_json
from impure.manifests.base.parquet import read_table, write_table
from impure.manifests.checks.verify import verify
from impure.manifests.collection import commit as commits
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.schema import PLAN
from impure.manifests.sharing import copy_shard as copying
from impure.manifests.sharing import merge as merging
from impure.manifests.sharing.merge import merge


@pytest.fixture
def other(collection_root, tmp_path):
    return Collection(shutil.copytree(collection_root, tmp_path / "other"))


@pytest.fixture
def into(collection_root, tmp_path):
    """The clean and FGSM shards of the training images, and nothing of the rest."""
    root = shutil.copytree(collection_root, tmp_path / "into")
    shutil.rmtree(root / "small" / "pgd")
    for split in ("validation", "test"):
        (root / "plans" / f"small-{split}.parquet").unlink()
        for attack in ("clean", "fgsm"):
            shutil.rmtree(root / "small" / attack / split)
    Collection(root).write_about({"software": {"torch": "ours"}})
    return Collection(root)


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


class Killed(BaseException):
    """As the end of the process: nothing catches it."""


KILLABLE = {
    merging: ("sweep", "_copy_plans", "copy_shard", "_renew_about"),
    copying: ("_copy_checked", "sha256_file", "sync", "move_in"),
    commits: ("move_into_place", "write_json"),
    os: ("replace",),
}


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in KILLABLE.items() for name in names]
)
def test_killed_anywhere_a_merge_shows_only_whole_shards_and_goes_on(
    tmp_path, other, monkeypatch, module, name
):
    new = Collection(tmp_path / "new")
    original = getattr(module, name)
    for calls in itertools.count():
        left = itertools.count(calls, -1)

        def dies(*args, left=left):
            if next(left) <= 0:
                raise Killed
            return original(*args)

        with monkeypatch.context() as patch:
            patch.setattr(module, name, dies)
            try:
                merge(new, other)
                break
            except Killed:
                bad = verify(Collection(new.root), "hash")
                assert [finding for finding in bad if "not committed" not in finding.problem
                        and finding.shard_id != "collection.json"] == []  # fmt: skip
    assert calls
    assert files(new.root) == files(other.root)


def test_a_killed_process_leaves_nothing_that_stays(tmp_path, other):
    new = Collection(tmp_path / "new")
    script = (
        "import os, sys; from pathlib import Path; "
        "from impure.manifests.sharing import copy_shard as c, merge as m; "
        "from impure.manifests.collection.collection import Collection; count = iter(range(3)); "
        "real = c.move_in; "
        "c.move_in = lambda *a: real(*a) if next(count, None) is not None else os._exit(9); "
        "m.merge(*(Collection(Path(path)) for path in sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, str(new.root), str(other.root)]
    assert subprocess.run(command, check=False).returncode == 9
    assert len(new.marked()) == 3
    assert list((new.root / "_tmp").glob("*/shard.tar"))
    done = merge(new, other)
    assert len(done.present) == 3
    assert not list((new.root / "_tmp").glob("*/*"))
    assert files(new.root) == files(other.root)


def test_two_merges_at_once_do_no_harm(tmp_path, other):
    new = Collection(tmp_path / "new")
    script = (
        "import sys; from pathlib import Path; from impure.manifests.sharing.merge import merge; "
        "from impure.manifests.collection.collection import Collection; "
        "done = merge(*(Collection(Path(path)) for path in sys.argv[1:])); "
        "raise SystemExit(len(done.bad) + len(done.differing))"
    )
    command = [sys.executable, "-c", script, str(new.root), str(other.root)]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert files(new.root) == files(other.root)


def test_a_shard_committed_meanwhile_is_kept(tmp_path, other, monkeypatch):
    new = Collection(tmp_path / "new")
    copy_plans = merging._copy_plans

    def and_others_are_quick(*args):
        copy_plans(*args)
        monkeypatch.setattr(merging, "_copy_plans", copy_plans)
        merge(new, other)

    monkeypatch.setattr(merging, "_copy_plans", and_others_are_quick)
    done = merge(new, other)
    assert list(done.present) == sorted(other.marked(), key=lambda shard_id: shard_id.attack != "clean")
    assert (done.copied, done.bad) == ((), ())


def test_a_full_disk_passes_up_and_leaves_nothing(tmp_path, other, monkeypatch):
    new = Collection(tmp_path / "new")

    def full(source, copy):
        if str(copy).endswith(".tar"):
            copy.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", str(copy))
        return shutil_copyfile(source, copy)

    shutil_copyfile = shutil.copyfile
    monkeypatch.setattr(copying.shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space"):
        merge(new, other)
    assert new.marked() == []
    assert not list(new.root.rglob("*.tar"))


def test_a_copy_that_differs_from_its_source_is_not_committed(tmp_path, other, monkeypatch):
    def flips_a_bit(source, copy):
        data = bytearray(source.read_bytes())
        data[0] ^= 1
        copy.write_bytes(data)

    monkeypatch.setattr(merging, "_copy_plans", lambda *args: None)
    monkeypatch.setattr(copying.shutil, "copyfile", flips_a_bit)
    new = Collection(tmp_path / "new")
    (new.root / "_tmp").mkdir(parents=True)
    done = merge(new, other)
    assert (done.copied, new.marked()) == ((), [])
    assert {finding.problem for finding in done.bad} == {
        f"{number:06d}.tar changed while it was copied; check disk and memory" for number in range(2)
    }


def test_what_is_no_other_collection_is_refused(into, tmp_path):
    with pytest.raises(InputError, match="itself"):
        merge(into, Collection(into.root / ".." / "into"))
    with pytest.raises(InputError, match="nowhere.*no committed shard"):
        merge(into, Collection(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
