import json
import shutil
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, write_json
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.schema import MANIFEST, PLAN
from impure.manifests.views.query import EXAMPLES, query
from impure.manifests.views.query_output import records
from impure.manifests.views.query_views import SHARDS, samples_view

duckdb = pytest.importorskip("duckdb")


@pytest.fixture
def collection(collection_root, tmp_path):
    return Collection(shutil.copytree(collection_root, tmp_path / "copy"))


def ask(collection, sql):
    return records(query(collection, sql))


def rows_of(collection):
    return [row for shard in collection.committed for row in shard.rows()[0].to_pylist()]


def marker_of(committed):
    return committed.stem.with_suffix(".done.json")


def test_the_views_hold_what_the_files_hold(collection):
    assert ask(collection, "SELECT count(*) AS n FROM samples") == [{"n": len(rows_of(collection))}]
    planned = sum(plan.table.num_rows for plan in collection.plans().values())
    assert ask(collection, "SELECT count(*) AS n FROM plans") == [{"n": planned}]
    shards = ask(
        collection, "SELECT shard_id, stored, tar_bytes, config_digest FROM shards ORDER BY shard_id"
    )
    assert shards == [
        {
            "shard_id": str(shard.shard_id),
            "stored": shard.marker["counts"]["stored"],
            "tar_bytes": shard.marker["tar"]["bytes"],
            "config_digest": shard.marker["config_digest"],
        }
        for shard in collection.committed
    ]
    for view, names in (
        ("samples", [*MANIFEST.names, "shard_id", "variant"]),
        ("plans", PLAN.names),
        ("shards", SHARDS.names),
    ):
        assert query(collection, f"FROM {view} LIMIT 0").column_names == names


def test_numbers_are_those_of_the_rows(collection):
    by_sql = ask(
        collection, "SELECT attack, sum(success::int) AS fooled FROM samples GROUP BY ALL ORDER BY 1"
    )
    rows = rows_of(collection)
    assert by_sql == [
        {"attack": name, "fooled": sum(bool(row["success"]) for row in rows if row["attack"] == name)}
        for name in ("clean", "fgsm", "pgd")
    ]
    joined = (
        "SELECT count(*) AS n FROM samples JOIN shards USING (shard_id, attack, variant) "
        "WHERE device LIKE 'cpu %'"
    )
    assert ask(collection, joined) == [{"n": len(rows)}]


@pytest.mark.parametrize("question", EXAMPLES)
def test_the_examples_of_the_help_work(collection, question):
    table = query(collection, EXAMPLES[question])
    assert table.num_rows or "withstood" in question
    assert json.dumps(records(table), allow_nan=False)


def test_pivot(collection):
    (row,) = ask(collection, "PIVOT (SELECT attack, split FROM samples WHERE split = 'test') ON attack "
                             "USING count(*)")  # fmt: skip
    rows = [row for row in rows_of(collection) if row["split"] == "test"]
    assert row == {"split": "test", **Counter(row["attack"] for row in rows)}


def test_images_that_withstood_have_no_success_and_no_failure(collection):
    withstood = ask(collection, EXAMPLES["images that withstood all attacks"])
    fooled = {row["source_id"] for row in rows_of(collection) if row["success"] and row["attack"] != "clean"}
    everything = {row["source_id"] for row in rows_of(collection)}
    assert {row["source_id"] for row in withstood} == everything - fooled


def test_only_committed_shards_are_seen(collection):
    first, second = collection.committed[:2]
    marker_of(first).unlink()
    stray = second.stem.with_name("000077.parquet")
    shutil.copy(second.manifest, stray)
    seen = ask(Collection(collection.root), "SELECT DISTINCT shard_id FROM samples ORDER BY 1")
    assert [row["shard_id"] for row in seen] == [
        str(shard_id) for shard_id in Collection(collection.root).marked()
    ]
    assert str(first.shard_id) not in [row["shard_id"] for row in seen]


def test_a_query_for_one_shard_opens_no_other_manifest(collection):
    dataset = samples_view(collection)
    shard = collection.committed[3]
    for other in collection.committed:
        if other != shard:
            other.manifest.unlink()
    with duckdb.connect(":memory:") as connection:
        connection.register("samples", dataset)
        sql = f"SELECT count(key) FROM samples WHERE shard_id = '{shard.shard_id}'"
        assert connection.sql(sql).fetchall() == [(shard.rows()[0].num_rows,)]


def test_filters_and_columns_reach_the_files(collection):
    with duckdb.connect(":memory:") as connection:
        connection.register("samples", samples_view(collection))
        plan = connection.sql("EXPLAIN SELECT l2 FROM samples WHERE eps_255 = 16").fetchall()[0][1]
    scan = plan[plan.index("ARROW_SCAN") :]
    assert "eps_255" in scan
    assert "l2" in scan
    assert "source_sha256" not in scan


HOSTILE = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_parquet('{parquet}')",
    "FROM '{parquet}'",
    "SELECT * FROM glob('{folder}/*')",
    "COPY (SELECT 1) TO '{folder}/new.csv'",
    "EXPORT DATABASE '{folder}/new'",
    "IMPORT DATABASE '{folder}'",
    "PIVOT samples ON attack USING count(*); SELECT 1",
    "PIVOT read_csv('{file}') ON secret USING count(*)",
    "ATTACH '{folder}/new.db'",
    "ATTACH '{folder}/new.db' AS other; SELECT 1",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SELECT * FROM read_text('https://example.org/')",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "CREATE SECRET (TYPE s3)",
    "SELECT 1; SELECT 2",
    "CREATE TABLE t AS SELECT 1",
    "DROP VIEW samples",
    "PRAGMA database_list",
    "SELECT getenv('HOME')",
    "SELECT * FROM views",
    "",
    "-- nothing",
]


@pytest.mark.parametrize("sql", HOSTILE)
def test_sql_touches_nothing_but_the_views(collection, tmp_path, sql):
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "secret.txt").write_text("secret\n")
    manifest = collection.committed[0].manifest
    parquet = folder / "secret.parquet"
    shutil.copy(manifest, parquet)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="^query: "):
        query(collection, sql.format(file=folder / "secret.txt", parquet=parquet, folder=folder))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "Parser Error.*SELEC"),
        ("SELECT kex FROM samples", r'Binder Error.*kex.* Candidate bindings: "key"'),
        ("SELECT 1 FROM sample", 'does not exist! Did you mean "samples"'),
        ("SELECT key + 1 FROM samples", "explicit type casts.$"),
        ("SELECT 'x'::int", "Conversion Error"),
        ("SELECT 1 AS a, 2 AS a", "two columns are called 'a'"),
        ("INSERT INTO samples VALUES (1)", "one SELECT"),
    ],
)
def test_bad_sql_is_one_line(collection, sql, said):
    with pytest.raises(InputError, match=said) as caught:
        query(collection, sql)
    assert "\n" not in str(caught.value)


def test_without_duckdb_the_extra_is_named(collection, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(InputError, match=r"pip install 'impure\[query\]'"):
        query(collection, "SELECT 1")


def spoil(committed, how):
    table, config = committed.rows()
    if how == "columns":
        write_table(committed.manifest, table.drop_columns(["l2"]), config)
    elif how == "junk":
        committed.manifest.write_bytes(b"PAR1 no table")
    elif how == "text":
        offsets = pa.array([0, *[2] * len(table)], pa.int32()).buffers()[1]
        wrong = pa.StringArray.from_buffers(len(table), offsets, pa.py_buffer(b"\xff\xfe"))
        place = table.schema.get_field_index("error")
        write_table(committed.manifest, table.set_column(place, "error", wrong), config)
    else:
        whole = bytearray(committed.manifest.read_bytes())
        whole[4:200] = bytes(byte ^ 255 for byte in whole[4:200])
        committed.manifest.write_bytes(whole)
    marker = read_json(marker_of(committed))
    marker["manifest"]["bytes"] = committed.manifest.stat().st_size
    write_json(marker_of(committed), marker)


@pytest.mark.parametrize("how", ["columns", "junk", "text", "pages"])
def test_damaged_manifests_are_one_line(collection, how):
    spoil(collection.committed[0], how)
    with pytest.raises(InputError) as caught:
        query(Collection(collection.root), "SELECT *, upper(error) AS loud FROM samples")
    assert "\n" not in str(caught.value)


def test_text_that_is_no_utf_8_is_one_line_where_duckdb_only_passes_it_on(collection):
    spoil(collection.committed[0], "text")
    with pytest.raises(InputError, match="^query: "):
        query(Collection(collection.root), "SELECT error FROM samples")


def test_a_missing_or_cut_manifest_is_named(collection):
    shard = collection.committed[0]
    shard.manifest.write_bytes(shard.manifest.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"000000\.parquet: missing or damaged"):
        query(collection, "SELECT 1")


@pytest.mark.parametrize("value", [1 << 70, "many", [1]])
def test_a_marker_with_odd_values_is_told(collection, value):
    shard = collection.committed[0]
    write_json(marker_of(shard), read_json(marker_of(shard)) | {"threads": value})
    with pytest.raises(InputError, match="marker"):
        query(Collection(collection.root), "SELECT threads FROM shards")


def test_a_collection_of_plans_alone_can_be_queried(collection):
    shutil.rmtree(collection.root / "small")
    bare = Collection(collection.root)
    assert ask(bare, "SELECT count(*) AS n FROM samples") == [{"n": 0}]
    assert ask(bare, "SELECT count(*) AS n FROM shards") == [{"n": 0}]
    assert ask(bare, "SELECT count(*) > 0 AS some FROM plans") == [{"some": True}]


def test_a_folder_that_is_no_collection_is_refused(tmp_path):
    with pytest.raises(InputError, match="no collection there"):
        query(Collection(tmp_path), "SELECT 1")


def test_reading_is_lean(collection):
    """Only the columns asked for are decoded: a column whose pages are broken does not matter to others."""
    shard = collection.committed[0]
    metadata = pq.read_metadata(shard.manifest)
    place = metadata.schema.names.index("source_id")
    column = metadata.row_group(0).column(place)
    start = column.dictionary_page_offset or column.data_page_offset
    whole = bytearray(shard.manifest.read_bytes())
    whole[start : start + 20] = bytes(20)
    shard.manifest.write_bytes(whole)
    assert ask(collection, "SELECT count(l2) AS n FROM samples")[0]["n"]
    with pytest.raises(InputError):
        query(collection, "SELECT source_id FROM samples")
