"""`impure-eval` is a group: `adaptive` attacks through a defence, and no name means `table1`."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from impure.cli import data, evaluate
from impure.manifests.collection.collection import Collection
from impure.pipeline.targets.load import load_target
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import list_pairs
from impure.purifier.defences.static.jpeg import Jpeg
from impure.purifier.evaluation.adaptive import cells
from impure.purifier.evaluation.adaptive.attack_cell import LabelledImages, attack_images
from tests.common import one_line, small_run
from tests.purifier.evaluation.adaptive.test_attack_cell import CELL

RUN = ("--images", "2", "--steps", "2", "--eot", "1", "--samples", "2", "--eps", "16", "--device", "cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("adaptive") / "pairs"
    made = CliRunner().invoke(
        data,
        ["generate", "--attack", "fgsm", "--split", "val", "--per-class", "1", "--device", "cpu",
         "--out", str(root)],
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    return root


@pytest.fixture(autouse=True)
def few_draws_and_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "EOT_LEVELS", (1, 2))
    monkeypatch.setattr(cells, "EPS_LEVELS", (128,))
    monkeypatch.setattr(cells, "PROBE_QUERIES", 25)


def run(*words: object) -> Result:
    return CliRunner().invoke(evaluate, [str(word) for word in words])


def test_a_checkpoint_is_attacked_and_the_report_written(root: Path, tmp_path: Path) -> None:
    checkpoint, out = small_run(tmp_path / "run"), tmp_path / "out"
    found = run("adaptive", "--shards", root, "--checkpoint", checkpoint, "--out", out, "--json", *RUN)
    assert found.exit_code in (0, 3), found.output  # a network that learnt nothing may fail a check
    document = json.loads(found.stdout)
    assert [each["defence"] for each in document["defences"]] == ["none", "riae"]
    rows = [row for row in document["rows"] if row["defence"] == "riae"]
    assert {row["attack"] for row in rows} == {"clean", "noise", "pgd-ce", "all attacks"}
    assert all(len(row["plan"]) == 64 and row["flop"] > 0 for row in rows if row["eps"] and row["steps"])
    assert json.loads(rows[0]["settings"])["partition"] == "uniform" and document["kind"] == "adaptive"
    assert rows[0]["chosen"] == "2 of 10 clean images of the split, evenly from its classes"
    assert document["conditions"]["checkpoints"] == [f"riae: {checkpoint}"]
    assert "riae before builtin" in (out / "adaptive.html").read_text()
    assert (out / "adaptive.md").exists() and list(out.glob("results/*/batch-00000.parquet"))
    broken = any(not check["passed"] for each in document["defences"] for check in each["checks"])
    assert found.exit_code == (3 if broken else 0)


def test_a_budget_chooses_once_and_says_what(root: Path, tmp_path: Path) -> None:
    words = (
        "adaptive",
        "--shards",
        root,
        "--budget",
        "1s",
        "--eps",
        "16",
        "--device",
        "cpu",
        "--out",
        tmp_path,
    )
    first, again = (run(*words, "--json") for _ in range(2))
    assert first.exit_code in (0, 3), first.output
    told = json.loads(first.stdout)["conditions"]["budget"]
    assert told.startswith("budget 1s: ") and f"Chosen for {told}." in first.stderr
    assert json.loads(again.stdout)["conditions"]["budget"] == told
    assert len(list(tmp_path.glob("budget-*.json"))) == 1
    one_line(run("adaptive", "--shards", root, "--budget", "soon", "--out", tmp_path), "such as 10m")


def test_blind_bytes_are_those_that_the_collection_stores(root: Path) -> None:
    """FGSM draws nothing: so the same bytes, whatever the images are called."""
    pairs = list(list_pairs(Collection(root).committed))
    adversarial, clean = map(torch.stack, zip(*map(PairReader().read, pairs), strict=True))
    labels = torch.tensor([pair.label for pair in pairs])
    blind = replace(CELL, knowledge="blind", attack="fgsm", steps=0, eot=1)
    target = load_target("builtin").requires_grad_(False)
    found = attack_images(
        blind, 0, Jpeg(), target, LabelledImages(clean, labels, [each.key for each in pairs])
    )
    assert torch.equal(found.images, adversarial)


def test_without_a_name_it_is_table1(root: Path, tmp_path: Path) -> None:
    plain = run("--shards", root, "--defence", "none", "--out", tmp_path / "a", "--device", "cpu")
    named = run("table1", "--shards", root, "--defence", "none", "--out", tmp_path / "b", "--device", "cpu")
    assert plain.exit_code == named.exit_code == 0, plain.output
    assert plain.stdout.splitlines()[:5] == named.stdout.splitlines()[:5]
    assert "adaptive" in run("--help").output and "--extra-resize" in run("table1", "--help").output


def test_wrong_options_are_one_line(root: Path, tmp_path: Path) -> None:
    one_line(
        run("adaptive", "--shards", root, "--eps", "four", "--out", tmp_path / "a"), "write whole numbers"
    )
    one_line(
        run("adaptive", "--shards", root, "--attacks", "magic", "--out", tmp_path / "a"), "unknown attack"
    )
    one_line(
        run("adaptive", "--shards", root, "--samples", "many", "--out", tmp_path / "a"), "such as 10,128"
    )
    assert not (tmp_path / "a").exists()
