"""`impure-eval compare` on a tiny collection, measured and from reports."""

import json
from pathlib import Path

import pytest
from PIL import Image

from impure.manifests.base.parquet import read_table
from impure.purifier.evaluation.image_predictions import SCHEMA
from tests.common import one_line, small_run
from tests.purifier.commands.evaluate.toy_eval import toy_eval
from tests.purifier.conftest import write_collection

FILES = ["compare-differing.csv", "compare-predictions.parquet", "compare-strips.png", "compare.csv",
    "compare.html", "compare.json", "compare.md"]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    write_collection(root, attacks=("pgd", "fgsm"), sizes=((32, 32),), count=8)
    return root


def test_two_checkpoints_and_a_defence_on_the_same_images(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise as large as the brightness makes some answers another, whatever it is."""
    run = small_run(tmp_path / "run")
    words = ("none", "gaussian-noise:eps=255", run, "--shards", root, "--split", "train")
    found = toy_eval(monkeypatch, "compare", *words, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert document["kind"] == "compare" and document["conditions"]["checkpoints"] == [f"riae: {run}"]
    assert [(row["first"], row["second"]) for row in document["rows"][::4]] == [
        ("none", "gaussian-noise:eps=255"), ("none", "riae"),
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    differing = document["differing"]
    table, _ = read_table(tmp_path / "out" / "compare-predictions.parquet", SCHEMA)
    right = {(row["key"], row["attack"], row["defence"]): row["right"] for row in table.to_pylist()}
    for row in differing:
        assert right[row["key"], row["attack"], row["right"]]
        other = row["second"] if row["right"] == row["first"] else row["first"]
        assert not right[row["key"], row["attack"], other]
    with Image.open(tmp_path / "out" / "compare-strips.png", formats=["PNG"]) as sheet:
        assert sheet.height > 200 and sheet.width > 500
    assert "Report: " in found.stdout and "A: none. B: gaussian-noise:eps=255." in found.stdout


def test_reports_are_compared_without_measuring_again(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, defences in (("one", "none,jpeg"), ("two", "jpeg,bit-depth")):
        words = ("--shards", root, "--split", "train", "--defence", defences, "--out", tmp_path / name)
        assert toy_eval(monkeypatch, "table2", *words).exit_code == 0
    reports = ("--from", tmp_path / "one", "--from", tmp_path / "two", "--out", tmp_path / "out")
    found = toy_eval(monkeypatch, "compare", "jpeg", "bit-depth", *reports)
    assert found.exit_code == 0, found.output
    document = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert {row["second"] for row in document["rows"]} == {f"jpeg@{tmp_path / 'two'}", "bit-depth"}
    assert {row["first"] for row in document["rows"]} == {f"jpeg@{tmp_path / 'one'}"}
    assert document["differing"] == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.csv", "compare.html", "compare.json", "compare.md",
    ]  # fmt: skip


def test_wrong_words_are_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = ("--shards", root, "--split", "train", "--out", tmp_path / "out")
    one_line(toy_eval(monkeypatch, "compare", "none", "jpeg"), "give --shards ROOT to measure, or --from")
    one_line(toy_eval(monkeypatch, "compare", "jpeg", "jpeg", *shards), "name two defences or checkpoints")
    one_line(toy_eval(monkeypatch, "compare", "jpeg", "nowhere", *shards), "nowhere: no checkpoint there")
    one_line(toy_eval(monkeypatch, "compare", "jpeg", *shards, "--from", tmp_path), "or --from REPORT")
    assert not (tmp_path / "out").exists()
