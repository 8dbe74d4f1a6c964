import errno
import os

import pyarrow as pa
import pytest

from impure.manifests.base import files
from impure.manifests.base.errors import InputError, WriteError
from impure.manifests.base.files import (
    atomic_path,
    move_into_place,
    read_json,
    read_within,
    write_json,
    writing,
)
from impure.manifests.base.parquet import read_table, write_table
from impure.manifests.collection.schema import PLAN


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        1 / 0  # noqa: B018
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"file/a: cannot be written \(File exists\); take another$"):
        with writing(tmp_path / "file" / "a", "take another"):
            write_json(tmp_path / "file" / "a", {})
    with pytest.raises(WriteError, match=r"a: cannot be written \(disk\)$"):
        with writing(tmp_path / "a", also=(RuntimeError,)):
            raise RuntimeError("disk\nfull")
    with pytest.raises(RuntimeError), writing(tmp_path / "a"):
        raise RuntimeError("a bug")


def test_a_file_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    replace = os.replace
    monkeypatch.setattr(files, "sync", lambda path: calls.append(("sync", path.name)))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append(("rename", "")) or replace(*paths))
    (tmp_path / "new").write_text("new")
    move_into_place(tmp_path / "new", tmp_path / "below" / "final")
    assert calls == [("sync", "new"), ("rename", ""), ("sync", "below")]
    assert (tmp_path / "below" / "final").read_text() == "new"


def test_only_a_folder_may_refuse_to_be_synchronised(bare_disk, tmp_path, monkeypatch):
    write_json(tmp_path / "below" / "a.json", {"a": 1})
    assert read_json(tmp_path / "below" / "a.json") == {"a": 1}
    refused = OSError(errno.EINVAL, "Invalid argument")
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(refused))
    with pytest.raises(OSError, match="Invalid argument"):
        write_json(tmp_path / "below" / "b.json", {})


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_broken_json_file_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(path)


def test_a_strangers_file_is_read_within_a_limit(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match=r"a\.json: cannot be read \(No such file or directory\)$"):
        read_within(path, 3)
    path.write_bytes(b"abc")
    assert read_within(path, 3) == b"abc"
    with pytest.raises(InputError, match=r"a\.json: has more than 2 bytes$"):
        read_within(path, 2)


def test_tables_carry_their_config(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, PLAN.empty_table(), {"seed": 3})
    table, config = read_table(path, PLAN)
    assert table.num_rows == 0
    assert config == {"seed": 3}


def test_foreign_and_broken_tables_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_table(path, pa.table({"x": [1]}), {})
    with pytest.raises(InputError, match=r"a\.parquet.*columns"):
        read_table(path, PLAN)
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(InputError, match=r"a\.parquet.*Parquet"):
        read_table(path, PLAN)
