"""Merges that are killed, run twice at once, or find the disk full."""

import errno
import itertools
import os
import shutil
import subprocess
import sys

import pytest

from impure.manifests.checks.verify import verify
from impure.manifests.collection import commit as commits
from impure.manifests.collection.collection import Collection
from impure.manifests.sharing import copy_shard as copying
from impure.manifests.sharing import merge as merging
from impure.manifests.sharing.merge import merge
from tests.manifests.sharing.test_merge import files


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
