"""`impure-eval table2` and `table3` on a tiny collection."""

import json
from pathlib import Path

import pytest

from impure.manifests.collection.shard_id import ShardId
from impure.purifier.commands.evaluate.tables.table_commands import table2_command
from tests.common import one_line, small_run
from tests.purifier.commands.evaluate.toy_eval import toy_eval
from tests.purifier.conftest import clean_image, write_collection, write_shard

NONE = ("--defence", "none")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two targets: toy under two attacks, other under one."""
    root = tmp_path_factory.mktemp("pairs")
    write_collection(root, sizes=((32, 32),))
    samples = [
        (f"other{index}", clean_image(index, (32, 32)), clean_image(index, (32, 32)), index)
        for index in (0, 1)
    ]
    write_shard(root, ShardId("other", "fgsm", "train", 0), samples)
    return root


def test_table2_has_every_defence_and_its_files(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path / "run")
    words = ("--shards", root, "--split", "train", "--defence", "none,jpeg", "--checkpoint", run)
    found = toy_eval(monkeypatch, "table2", *words, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("| other ") and "| toy " in found.stdout and "| riae " in found.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "table2-accuracy-other.png", "table2-accuracy-other.svg", "table2-accuracy-toy.png",
        "table2-accuracy-toy.svg", "table2-classes.csv", "table2-confusions.csv", "table2-means.csv",
        "table2-predictions.parquet", "table2-strips-other.png", "table2-strips-toy.png", "table2.csv",
        "table2.html", "table2.json", "table2.md",
    ]  # fmt: skip
    document = json.loads((tmp_path / "out" / "table2.json").read_text())
    assert document["kind"] == "table2" and document["conditions"]["checkpoints"] == [f"riae: {run}"]
    assert {row["target"] for row in document["rows"]} == {"toy", "other"}


def test_table2_of_one_target(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = tmp_path / "toy.json"
    monkeypatch.setattr("impure.pipeline.targets.load.shard_name", lambda name: Path(name).stem)
    words = ("--shards", root, "--split", "train", "--target", card, "--limit", "2", "--json", *NONE)
    found = toy_eval(monkeypatch, "table2", *words, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    rows = json.loads(found.stdout)["rows"]
    assert {row["target"] for row in rows} == {"toy"} and {row["n"] for row in rows} == {2}
    assert {param.name: param.default for param in table2_command.params}["defences"] == "all"


def test_table3_marks_what_a_checkpoint_saw(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = small_run(tmp_path / "run", data={"shards": ["toy/fgsm/train/000000"]})
    words = ("--shards", root, "--split", "train", "--defence", "none", "--checkpoint", run)
    found = toy_eval(monkeypatch, "table3", *words, "--out", tmp_path / "out")
    assert found.exit_code == 0, found.output
    assert "fgsm*" in found.stdout and "riae was trained on fgsm on toy." in found.stdout
    assert "other is none of the targets that riae learnt from: threat model transfer." in found.stdout
    rows = json.loads((tmp_path / "out" / "table3.json").read_text())["rows"]
    models = {(row["target"], row["attack"]): row["threat_model"] for row in rows if row["defence"] == "riae"}
    assert models == {
        ("other", "clean"): None, ("other", "fgsm"): "transfer",
        ("toy", "clean"): None, ("toy", "fgsm"): "black-box", ("toy", "pgd"): "agnostic",
    }  # fmt: skip


def test_wrong_options_are_one_line_and_nothing_is_left(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ("--shards", root, "--split", "train", "--out", tmp_path / "out")
    one_line(toy_eval(monkeypatch, "table2"), "nothing to evaluate: give --shards")
    one_line(toy_eval(monkeypatch, "table3", *out), "give --checkpoint RUN of `impure-train --attacks")
    silent = small_run(tmp_path / "run")
    one_line(toy_eval(monkeypatch, "table3", *out, "--checkpoint", silent), "does not say which attacks")
    assert not (tmp_path / "out").exists()
    assert "wavelet-sr" in toy_eval(monkeypatch, "table2", "--defence", "list").stdout
