"""`impure-eval` is a group: `adaptive` attacks through a defence, and no name means `table1`."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from impure.cli import data, evaluate
from tests.common import one_line, small_run

RUN = ("--images", "4", "--steps", "2", "--eot", "2", "--samples", "2", "--eps", "16", "--device", "cpu")


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


def run(*words: object) -> Result:
    return CliRunner().invoke(evaluate, [str(word) for word in words])


def test_a_checkpoint_is_attacked_and_the_report_written(root: Path, tmp_path: Path) -> None:
    checkpoint, out = small_run(tmp_path / "run"), tmp_path / "out"
    found = run("adaptive", "--shards", root, "--checkpoint", checkpoint, "--out", out, "--json", *RUN)
    assert found.exit_code in (0, 3), found.output  # a network that learnt nothing may fail a check
    document = json.loads(found.stdout)
    assert [each["defence"] for each in document["defences"]] == ["none", "riae"]
    assert {row["attack"] for row in document["defences"][1]["rows"]} == {
        "clean", "noise", "pgd-ce", "all attacks",
    }  # fmt: skip
    assert (out / "adaptive.md").exists() and list(out.glob("results/*/batch-00000.parquet"))
    broken = any(not check["passed"] for each in document["defences"] for check in each["checks"])
    assert found.exit_code == (3 if broken else 0)


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
    assert not (tmp_path / "a").exists()
