"""Temporary folders and locks: those of the living stay, what the killed left is swept away."""

import threading

from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_lock import commit_lock, lock_shard, wait_for_shard_lock
from impure.manifests.collection.temp_dirs import sweep, temp_dir

KILLED = "toy.pgd.train.000000." + "0" * 32


def test_a_sweep_spares_the_living_and_what_is_none_of_ours(tmp_path):
    collection = Collection(tmp_path)
    (tmp_path / "_tmp" / KILLED).mkdir(parents=True)
    (tmp_path / "_tmp" / KILLED / "alive.lock").touch()
    (tmp_path / "_tmp" / ("b." + "1" * 32)).mkdir()  # killed before it had its lock
    (tmp_path / "_tmp" / "pull-1").mkdir()
    with temp_dir(collection, "a/b") as folder:
        assert folder.name.startswith("a.b.")
        sweep(collection)
        there = {path.name for path in (tmp_path / "_tmp").iterdir()}
        assert there == {folder.name, "pull-1", "commit.lock"}
    assert not folder.exists()


def test_a_shard_has_one_maker(tmp_path):
    collection = Collection(tmp_path)
    with lock_shard(collection, "a/b"):
        assert lock_shard(collection, "a/b") is None
        with lock_shard(collection, "a/c"):
            pass
    with lock_shard(collection, "a/b"):
        pass
    assert [path.name for path in (tmp_path / "_tmp").iterdir()] == []


def test_who_waits_for_a_shard_gets_a_lock_that_others_see(tmp_path):
    """The first owner removes the file that the second has opened already: that one is locked by nobody."""
    collection = Collection(tmp_path)
    first, seen = wait_for_shard_lock(collection, "a"), []

    def wait():
        with wait_for_shard_lock(collection, "a"):
            seen.append(lock_shard(collection, "a"))

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive() and not seen
    first.close()
    waiting.join(10)
    assert seen == [None]


def test_one_process_at_a_time_commits(tmp_path):
    collection, order = Collection(tmp_path), []

    def commit():
        with commit_lock(collection):
            order.append("second")

    with commit_lock(collection):
        other = threading.Thread(target=commit)
        other.start()
        other.join(0.2)
        order.append("first")
    other.join(10)
    assert order == ["first", "second"]


def test_where_nobody_knows_who_is_alive_nothing_is_swept(bare_disk, tmp_path):
    collection = Collection(tmp_path)
    with temp_dir(collection, "a/b") as folder, lock_shard(collection, "a/b"):
        sweep(collection)
        assert folder.is_dir()
    assert not folder.exists()
