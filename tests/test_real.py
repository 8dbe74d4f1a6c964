"""Real photographs through the whole road; where they lie beside the checkout (never inside it)."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from impure.manifests.collection.samples import read_shard
from impure.manifests.collection.shard_filter import select_shards
from impure.pipeline.attacks.attack_names import PAPER_ATTACKS

SHARED = Path(__file__).parents[2] / "shared"
PHOTOGRAPHS, TARGET = SHARED / "imagenette", SHARED / "targets" / "resnet10t.json"

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="no photographs beside the checkout"),
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, run):
    root = tmp_path_factory.mktemp("real") / "pairs"
    for split in ("train", "val"):
        result = run(
            "data", "generate", "--images", PHOTOGRAPHS, "--target", TARGET, "--attack", "all",
            "--split", split, "--per-class", 1, "--out", root,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
    return root


def test_every_attack_but_fgsm_fools_the_target_within_the_budget(pairs, run):
    verified = run("data", "verify", pairs, "--level", "decode", "--json")
    assert json.loads(verified.stdout)["bad"] == []
    for attack in PAPER_ATTACKS:
        rows = [
            row
            for shard in select_shards(str(pairs), attacks=[attack])
            for row in shard.rows()[0].to_pylist()
        ]
        assert len(rows) == 30
        assert sum(row["success"] for row in rows) >= (20 if attack == "fgsm" else 29), attack
    for shard in select_shards(str(pairs)):
        for sample in read_shard(shard.tar):
            assert np.abs(sample.adversarial.astype(int) - sample.clean).max() <= 16


def test_labels_are_places_among_the_targets_classes(pairs):
    wnids = json.loads(TARGET.read_text())["wnids"]
    for shard in select_shards(str(pairs), attacks=["clean"]):
        for row in shard.rows()[0].to_pylist():
            assert row["wnid"] == row["source_id"].split("/")[1] == wnids[row["label"]]


def test_training_lowers_the_loss_and_evaluation_runs_on_the_result(pairs, run, tmp_path):
    trained = run(
        "train",
        "--shards",
        pairs,
        "--model",
        "tiny",
        "--epochs",
        8,
        "--batch-size",
        8,
        "--out",
        tmp_path / "run",
    )
    assert trained.exit_code == 0, trained.output
    with (tmp_path / "run" / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.8 * losses[0]
    evaluated = run(
        "evaluate", "--shards", pairs, "--checkpoint", tmp_path / "run", "--target", TARGET, "--json"
    )
    assert evaluated.exit_code == 0, evaluated.output
    rows = json.loads(evaluated.stdout)["rows"]
    assert {row["attack"] for row in rows} == {"clean", *PAPER_ATTACKS}
    assert {row["defence"] for row in rows} == {"none", "jpeg", "riae"}
    assert all(row["n"] == 10 for row in rows)


def test_shards_judged_by_another_network_are_refused(pairs, run):
    other = run("evaluate", "--shards", pairs, "--defence", "none", "--target", "builtin")
    assert other.exit_code == 1
    assert "imagenette-resnet10t" in other.output
