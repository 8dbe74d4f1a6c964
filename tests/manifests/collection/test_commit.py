"""Commits: marker last, the old one first away, the first of two processes wins, and what counts as whole."""

import io
import tarfile
from dataclasses import replace

import pytest

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError, ReadBackError
from impure.manifests.collection import commit, writer
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.commit import find_committed
from impure.manifests.collection.samples import read_shard
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.storage import Storage
from impure.manifests.collection.writer import EmptyShardError, encode, open_shard
from tests.manifests.stored import CARD, pairs, plain

SHARD = ShardId("toy", "pgd", "test", 0)
CONFIG = {"target": CARD, "storage": plain(Storage()), "seed": 3}


def make(collection, config=CONFIG):
    """Write and commit the shard of four pairs."""
    with open_shard(collection, SHARD) as shard:
        for sample, row in pairs("pgd"):
            shard.add(encode(sample, row, Storage(), "pgd"))
        return shard.commit(config, {"run_id": "one"})


@pytest.fixture
def collection(tmp_path):
    return Collection(tmp_path)


def test_a_committed_shard_is_whole_and_says_what_it_holds(collection):
    marker = make(collection)
    committed = collection.read(SHARD)
    assert committed.marker == marker and committed.whole
    assert (marker["shard_id"], marker["config"], marker["run_id"]) == (str(SHARD), CONFIG, "one")
    assert marker["config_digest"] == digest(CONFIG)
    assert marker["counts"] == {"planned": 4, "stored": 4, "unreadable": 0, "failed": 0, "succeeded": 2}
    assert [sample.key for sample in read_shard(committed.tar)] == [sample.key for sample, _ in pairs("pgd")]
    assert [row["index_in_shard"] for row in committed.stored_rows("key")] == [0, 1, 2, 3]
    assert not [path for path in (collection.root / "_tmp").iterdir() if path.is_dir()]


@pytest.mark.parametrize("name", ["tar", "manifest"])
@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\0"], ids=["short", "long"])
def test_a_file_of_another_size_is_not_whole(collection, name, change):
    make(collection)
    committed = collection.read(SHARD)
    path = getattr(committed, name)
    path.write_bytes(change(path.read_bytes()))
    assert not committed.whole
    assert find_committed(collection, SHARD, CONFIG) is None


def test_the_order_is_tar_manifest_marker(collection, monkeypatch):
    moved = []
    move, write = commit.move_into_place, commit.write_json
    monkeypatch.setattr(commit, "move_into_place", lambda *paths: moved.append(paths[1].name) or move(*paths))
    monkeypatch.setattr(
        commit, "write_json", lambda path, value: moved.append(path.name) or write(path, value)
    )
    make(collection)
    assert moved == ["000000.tar", "000000.parquet", "000000.done.json"]


def test_the_marker_of_a_damaged_shard_goes_before_its_files_are_replaced(collection, monkeypatch):
    make(collection)
    collection.read(SHARD).tar.write_bytes(b"cut")
    marked = []
    move = commit.move_into_place
    monkeypatch.setattr(
        commit,
        "move_into_place",
        lambda *paths: marked.append(Collection(collection.root).marked()) or move(*paths),
    )
    make(collection)
    assert marked == [[], []]
    assert collection.read(SHARD).whole


def test_the_first_of_two_processes_wins(collection):
    with open_shard(collection, SHARD) as late:
        first = make(collection)
        inode = collection.read(SHARD).tar.stat().st_ino
        for sample, row in pairs("pgd"):
            late.add(encode(sample, row, Storage(), "pgd"))
        assert late.commit(CONFIG, {"run_id": "two"}) == first
    assert collection.read(SHARD).tar.stat().st_ino == inode


def test_another_config_is_refused_by_name(collection):
    make(collection)
    with pytest.raises(InputError, match=r"000000\.tar: made with another config: seed \(there 3, now 4\)"):
        make(collection, CONFIG | {"seed": 4})
    with pytest.raises(InputError, match="seed"):
        find_committed(collection, SHARD, CONFIG | {"seed": 4})


def test_a_shard_without_a_sample_is_not_committed(collection):
    rows = [{**row, "status": "failed", "error": "broken"} for _, row in pairs("pgd")]
    with open_shard(collection, SHARD) as shard:
        shard.add_rows(rows)
        with pytest.raises(EmptyShardError, match=r"none of its 4 images could be stored \(broken\)"):
            shard.commit(CONFIG, {})
    assert not collection.marked()


def test_what_is_not_read_back_as_it_was_written_is_not_committed(collection, monkeypatch):
    """One bit that flips on the way to the disk is found, wherever it is; so is a byte more or less."""

    def spoil(change):
        return lambda path: path.suffix == ".tar" and path.write_bytes(change(path.read_bytes()))

    changes = [flip(byte) for byte in (0, 150, 600, 5000, -1)]
    for change in (*changes, lambda data: b"lost", lambda data: data[:-1], lambda data: data + b"\0"):
        monkeypatch.setattr(writer, "sync", spoil(change))
        with pytest.raises(ReadBackError, match="what was written"):
            make(collection)
        assert not collection.marked() and not list(collection.root.glob("toy/*/*/*"))


def test_a_bit_that_flips_between_encoding_and_writing_is_found(collection):
    with open_shard(collection, SHARD) as shard:
        for sample, row in pairs("pgd"):
            encoded = encode(sample, row, Storage(), "pgd")
            shard.add(replace(encoded, data=flip(2000)(encoded.data)))
        with pytest.raises(ReadBackError, match="not what was written"):
            shard.commit(CONFIG, {})


def flip(byte):
    """Flip one bit of the data's byte of this number."""
    return lambda data: data[:byte] + bytes([data[byte] ^ 4]) + data[byte:][1:]


def test_a_tar_is_what_the_standard_library_would_write(collection):
    make(collection)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for sample, _ in pairs("pgd"):
            for name, content in Storage().members(sample, "pgd"):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    assert collection.read(SHARD).tar.read_bytes() == buffer.getvalue()
