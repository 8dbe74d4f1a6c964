"""`impure-train --stage adversarial`: what it refuses, and one run from stage 1 to an adaptive evaluation."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from impure.manifests.base.files import read_json
from impure.purifier.training.validation import adaptive_validator
from tests.common import PLAIN, one_line, small_run
from tests.test_train_cli import Run, fine, planned

STAGE = ("--stage", "adversarial")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (STAGE, "goes on from trained weights; give --init RUN"),
        ((*STAGE, "--init", "x", "--pretrain"), "--pretrain is --stage pretrain; give one stage"),
        ((*STAGE, "--init", "x", "--model", "comdefend"), "is for RIAE; leave away --model comdefend"),
        ((*STAGE, "--init", "x", "--attacks", "pgd"), "--attacks is for stored pairs"),
        ((*STAGE, "--init", "x", "--no-clean-pairs"), "--clean-pairs is for stored pairs"),
        ((*STAGE, "--init", "x", "--images", "builtin"), "--images and --labels are for --pretrain"),
        ((*STAGE, "--init", "x", "--eps", "four"), "--eps 'four': write whole numbers"),
        ((*STAGE, "--init", "x", "--eps", "0"), "give budgets from 1 to 255"),
        ((*STAGE, "--init", "x", "--clean-share", 0.9), "clean_share is 0.9"),
        ((*STAGE, "--init", "x", "--hold-out", "other"), "--hold-out other: the shards are of small"),
        ((*STAGE, "--init", "x", "--hold-out", "small"), "beside small the shards have no target"),
        ((*STAGE, "--init", "x"), "made on target 'small'; give it with --target"),
        (("--eps", "4"), "--eps is for --stage adversarial"),
        (("--hold-out", "small"), "--hold-out is for --stage adversarial"),
        (("--pretrain", "--attack-steps", 2), "--attack-steps is for --stage adversarial"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_clear_line(
    train: Run, tmp_path: Path, more: tuple[Any, ...], said: str
) -> None:
    one_line(train(tmp_path / "run", *more), said)
    assert not (tmp_path / "run").exists()


def test_options_reach_the_config(train: Run, card: Path, tmp_path: Path) -> None:
    more = ("--target", card, "--init", small_run(tmp_path / "first"))
    one_line(train(tmp_path / "run", *STAGE, *more, "--dry-run"), "a checkpoint of another architecture")


def test_pretrain_is_short_for_its_stage(run: Run, tmp_path: Path) -> None:
    asked = (*PLAIN, "--out", tmp_path / "run", "--stage", "pretrain", "--images", "/nowhere")
    one_line(run("train", *asked), "/nowhere: no such folder")


@pytest.mark.slow
def test_from_stage_one_to_an_adaptive_evaluation(
    train: Run, run: Run, card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive_validator, "STEPS", 2)
    first, second = tmp_path / "first", tmp_path / "second"
    fine(train(first, "--validate", "none"))
    options = (*STAGE, "--init", first, "--target", card, "--eps", "2,4", "--attack-steps", 2, "--bf16")
    plan = planned(train(second, *options, "--dry-run", "--json"))
    assert plan["config"]["adversary"] == {"eps": [2, 4], "steps": 2, "clean_share": 0.25, "weight": 1.0}
    assert plan["composition"] == {"small/clean": 9} and plan["config"]["ema_decay"] > 0
    said = fine(train(second, *options, "--validate-images", 3))
    assert f"--checkpoint {second / 'best'}" in said.stdout and "Next: impure-eval adaptive" in said.stdout
    assert list(read_json(second / "best" / "config.json")["targets"]) == ["small"]
    best = second / "best"
    evaluated: Result = run(
        "evaluate", "adaptive", "--shards", train_root(said), "--target", card, "--checkpoint", best,
        "--images", 3, "--steps", 2, "--eot", 2, "--samples", 2, "--eps", "4", "--out", tmp_path / "adaptive",
    )  # fmt: skip
    assert evaluated.exit_code in (0, 3) and (tmp_path / "adaptive" / "adaptive.json").exists()


def train_root(said: Result) -> str:
    """The collection in the line that comes next."""
    words = said.stdout.split()
    return words[words.index("--shards") + 1]
