"""Results of queries for people, as JSON and as CSV."""

import csv
import io
import json

import pyarrow as pa
import pytest

from impure.manifests.collection.collection import Collection
from impure.manifests.views.query import query
from impure.manifests.views.query_output import as_csv, as_text, records

pytest.importorskip("duckdb")

ODD = """
    SELECT sum(x)::hugeint AS whole, 1.5::decimal(4, 2) AS part, 'NaN'::double AS nan, '\\xFF'::blob AS raw,
    date '2026-11-21' AS day, [1, 2] AS list, {'a': 1.5::decimal(4, 1)} AS struct, NULL AS nothing,
    'a,"b"' AS text, true AS yes FROM range(3) AS r(x)
"""


def test_results_as_json_and_csv(tmp_path):
    (tmp_path / "plans").mkdir()
    table = query(Collection(tmp_path), ODD)
    (row,) = json.loads(json.dumps(records(table), allow_nan=False))
    assert row == {
        "whole": 3, "part": 1.5, "nan": None, "raw": "ff", "day": "2026-11-21", "list": [1, 2],
        "struct": {"a": 1.5}, "nothing": None, "text": 'a,"b"', "yes": True,
    }  # fmt: skip
    header, cells = csv.reader(io.StringIO(as_csv(table)))
    assert header == table.column_names
    assert cells == [
        "3", "1.5", "", "ff", "2026-11-21", "[1, 2]", '{"a": 1.5}', "", 'a,"b"', "true",
    ]  # fmt: skip


def test_results_for_people_are_capped_and_harmless():
    table = pa.table({"id": range(60), "say": ["a|b\x1b[2J\nc" + "x" * 200] * 60, "l2": [0.123456789] * 60})
    text = as_text(table, shown=5)
    lines = text.splitlines()
    assert len(lines) == 2 + 5 + 2
    assert lines[-2].startswith("… and 55 more rows")
    assert lines[-1] == "Cells are cut at 100 characters; --csv and --json print them whole."
    assert "\x1b" not in text
    assert "a\\|b" in text
    assert "0.123457" in text
    assert max(map(len, lines)) < 140
    assert "cut" not in as_text(table.select(["id"]))
    assert "more rows" not in as_text(table, shown=60)
    assert as_text(table.slice(0, 0)).splitlines()[2:] == ["0 rows"]
