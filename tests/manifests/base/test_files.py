import pyarrow as pa
import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, read_json, write_json
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


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_broken_json_file_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(path)


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
