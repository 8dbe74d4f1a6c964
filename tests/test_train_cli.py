"""`impure-train`: every option, the files that a run leaves, and what is refused before any harm is done."""

import csv
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import Result

from impure.manifests.base.files import read_json
from impure.pipeline.builtin import drawing as images
from impure.purifier.data import photos
from impure.purifier.training.run_folder import only_trainer
from impure.purifier.training.train_step import TrainStep
from tests.common import one_line, small_run

Run = Callable[..., Result]
MORE = (
    "--lr",
    "2e-3",
    "--model-ema-decay",
    0.5,
    "--variants",
    1,
    "--no-clean-pairs",
    "--bf16",
    "--validate",
    "none",
)


@pytest.fixture(scope="module")
def trained(train: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with many options; not to be changed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert "One epoch is a smoke test" in fine(train(out, *MORE)).stdout
    return out


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "copy")


def fine(result: Result) -> Result:
    assert result.exit_code == 0, result.output
    return result


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def planned(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(fine(result).stdout)
    return document


def epochs(out: Path) -> list[int]:
    with (out / "log.csv").open(newline="") as file:
        return [int(row["epoch"]) for row in csv.DictReader(file)]


# --- --config ---


def test_a_runs_own_options_train_the_same(trained: Path, run: Run, tmp_path: Path) -> None:
    fine(run("train", "--config", trained / "run.yaml", "--out", tmp_path / "again"))
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (trained / name).read_bytes()
    first, again = (yaml.safe_load((each / "run.yaml").read_text()) for each in (trained, tmp_path / "again"))
    assert again.pop("out") == str(tmp_path / "again") and first.pop("out") == str(trained)
    assert first == again and first["bf16"] is True and first["clean_pairs"] is False


def test_a_finished_run_is_found_by_its_own_options(copy: Path, run: Run, tmp_path: Path) -> None:
    options = yaml.safe_load((copy / "run.yaml").read_text())
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**options, "out": str(copy)}))
    before = contents(copy)
    fine(run("train", "--config", tmp_path / "run.yaml"))
    assert contents(copy) == before


def test_the_command_line_wins(trained: Path, run: Run, tmp_path: Path) -> None:
    asked = ("train", "--config", trained / "run.yaml", "--out", tmp_path / "run", "--dry-run", "--json")
    plain = planned(run(*asked))["config"]
    assert (plain["learning_rate"], plain["variants"], plain["clean_pairs"]) == (2e-3, 1, False)
    changed = planned(run(*asked, "--seed", 7, "--clean-pairs", "--lr", "1e-3"))["config"]
    assert changed == {**plain, "seed": 7, "clean_pairs": True, "learning_rate": 1e-3}


def test_both_spellings_and_lists(run: Run, collection_root: Path, card: Path, tmp_path: Path) -> None:
    text = (
        "batch-size: 4\nweight_decay: 1e-2\ncompile: false\nseed:\nfeature-node: [stages.0=2, stages.1=3]\n"
    )
    (tmp_path / "x.yaml").write_text(text + f"features: {card}\ntarget: [{card}]\n")
    asked = ("train", f"--config={tmp_path / 'x.yaml'}", "--shards", collection_root, "--model", "tiny")
    config = planned(run(*asked, "--dry-run", "--json"))["config"]
    assert (config["batch_size"], config["weight_decay"], config["seed"]) == (4, 0.01, 0)
    assert (config["nodes"], config["lambdas"]) == (["stages.0", "stages.1"], [2.0, 3.0])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lrr: 1", "no option 'lrr'"),
        ("no-clean-pairs: true", "no option 'no-clean-pairs'"),
        ("config: other.yaml", "no option 'config'"),
        ("1: 2", "no option '1'"),
        ("epochs: [1, 2", "x.yaml, line 1: not a readable YAML file"),
        ("epochs: 1\n  batch: 2", "x.yaml, line 2: not a readable YAML file"),
        ("- epochs", "holds no options by name"),
        ("word", "holds no options by name"),
        ("epochs: {most: 3}", r"epochs: is \{'most': 3\}; it must be a word"),
        ("epochs: [3]", r"epochs: is \[3\]; it must be a word"),
        ("target: [[a]]", r"target: is \['a'\]; it must be a word"),
        ("epochs: many", "epochs: 'many' is not a valid"),
        ("epochs: 1.5", "epochs: '1.5' is not a valid"),
        ("epochs: 0", "epochs: 0 is not in the range"),
        ("epochs: true", "epochs: is True; it must be a word"),
        ("validate: no", r"validate: is False; it must be a word \(perhaps in quotes\)"),
        ("bf16: 3", "bf16: is 3; it must be true or false"),
        ("mask: noise", "mask: 'noise' is not one of"),
        ("batch-size: 1\nbatch_size: 2", "says --batch-size twice"),
    ],
)
def test_a_bad_file_is_one_clear_line(train: Run, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    one_line(train(tmp_path / "run", "--config", tmp_path / "x.yaml"), said, 2)
    assert not (tmp_path / "run").exists()


def test_a_file_that_cannot_be_read_is_one_clear_line(train: Run, tmp_path: Path) -> None:
    one_line(train(tmp_path / "run", "--config", tmp_path / "x.yaml"), r"x\.yaml: not a readable YAML", 2)
    one_line(train(tmp_path / "run", "--config", tmp_path), "is a directory", 2)
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    one_line(train(tmp_path / "run", "--config", tmp_path / "x.yaml"), r"x\.yaml: not a readable YAML", 2)
    one_line(train(tmp_path / "run", "--config"), "requires an argument", 2)


# --- --dry-run ---


# --- --pretrain and --init ---


def test_pretraining_then_training_from_it(
    run: Run, train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(images.SIZES, "train", 1)  # type: ignore[arg-type]  # of each class
    monkeypatch.setattr(photos, "LEAST_SIDE", 16)
    monkeypatch.setattr(photos, "MOST_SIDE", 64)
    monkeypatch.chdir(tmp_path)
    asked = ("--model", "tiny", "--epochs", 1, "--batch-size", 5, "--device", "cpu", "--threads", 1)
    said = fine(run("train", "--pretrain", "--images", "builtin", *asked)).stdout
    first = Path("impure-runs/pretrained-tiny")
    assert "Next: impure-train --shards ROOT --init impure-runs/pretrained-tiny" in said
    config = read_json(first / "config.json")
    assert (config["train"]["stage"], config["data"]["photographs"]) == ("pretrain", 10)
    fine(train(tmp_path / "run", "--init", first, "--validate", "none"))
    init = read_json(tmp_path / "run" / "config.json")["init"]
    assert (init["origin"], init["random"]) == ("impure", [])
    one_line(train(tmp_path / "run", "--validate", "none"), "holds another run; it differs in init")


def test_weights_of_another_architecture_do_no_harm(train: Run, copy: Path, tmp_path: Path) -> None:
    init, before = ("--init", small_run(tmp_path / "other")), contents(copy)
    for out in (copy, tmp_path / "new"):
        one_line(
            train(out, *MORE, *init),
            r"other: a checkpoint of another architecture \(.*encoder_dim 16, here 64",
        )
    assert contents(copy) == before and contents(tmp_path / "new") == {}
    one_line(train(copy, *MORE, "--init", tmp_path / "none"), "none: no checkpoint there")
    assert contents(copy) == before


# --- what is refused before anything is written ---


# --- --feature… ---


def test_a_feature_network_of_ones_own(train: Run, card: Path, tmp_path: Path) -> None:
    node = ("--feature-node", "stages.0=2", "--features", card, "--validate", "none")
    fine(train(tmp_path / "run", *node))
    found = read_json(tmp_path / "run" / "config.json")["train"]
    assert (found["nodes"], found["lambdas"], found["feature_network"]) == (["stages.0"], [2.0], str(card))
    with (tmp_path / "run" / "log.csv").open(newline="") as file:
        assert all(float(row["perceptual"]) > 0 for row in csv.DictReader(file))
    one_line(train(tmp_path / "x", *node, "--feature-node", "stages.9=1"), "no node 'stages.9'; close names")
    assert not (tmp_path / "x").exists()


# --- going on ---


def test_the_same_command_goes_on(train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ("--epochs", 3, "--validate", "none")
    fine(train(tmp_path / "whole", *asked))
    whole = TrainStep.update

    def dying(self: TrainStep, micro_batches: Any, step: int, rate: float) -> torch.Tensor:
        if step == 4:  # in the second of three epochs of three updates
            raise KeyboardInterrupt
        return whole(self, micro_batches, step, rate)

    with monkeypatch.context() as patched:
        patched.setattr(TrainStep, "update", dying)
        assert train(tmp_path / "killed", *asked).exit_code == 1
    assert epochs(tmp_path / "killed") == [1]
    fine(train(tmp_path / "killed", *asked, "--workers", 0))
    assert epochs(tmp_path / "killed") == [1, 2, 3]
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_sigterm_saves_and_says_how_to_go_on(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def preempted(_: TrainStep) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)  # while the first epoch is saved
        return True

    monkeypatch.setattr(TrainStep, "is_finite", preempted)
    stopped = train(tmp_path / "run", "--epochs", 2, "--validate", "none")
    assert stopped.exit_code == 128 + signal.SIGTERM, stopped.output
    assert re.search(r"run: stopped and saved after step \d+; the same command goes on", stopped.stderr)
    monkeypatch.undo()
    resumed = fine(train(tmp_path / "run", "--epochs", 2, "--validate", "none"))
    assert re.search(r"run: going on after step \d+ of", resumed.stderr)
    assert epochs(tmp_path / "run")[-1] == 2


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--lr", "3e-3"), r"holds another run; it differs in train\.learning_rate"),
        (("--attacks", "pgd"), r"it differs in data"),
        (("--mask", "occlusion"), r"it differs in riae\.mask"),
    ],
)
def test_another_run_is_refused_and_nothing_changes(
    train: Run, copy: Path, more: tuple[Any, ...], said: str
) -> None:
    before = contents(copy)
    one_line(train(copy, *MORE, *more), said)
    assert contents(copy) == before


def test_a_second_trainer_is_refused(train: Run, copy: Path, tmp_path: Path) -> None:
    for out, asked in ((copy, MORE), (tmp_path / "new", ())):
        with only_trainer(out):
            before = contents(out)
            one_line(train(out, *asked), "another process trains there; wait, or take another --out")
            assert contents(out) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_leaves_its_traceback_in_the_ranks_log(
    train: Run, collection_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error", "000000.tar")

    monkeypatch.setattr("impure.purifier.data.pair_reader.read_stored", fails)
    failed = train(tmp_path / "run", "--workers", workers, "--validate", "none")
    one_line(failed, r"000000\.tar: cannot be read \(Input/output error\)")
    log = tmp_path / "run" / "logs" / "rank-0.log"
    assert f"Log: {log}" in failed.stderr
    text = log.read_text()
    assert (
        "in fails" in text and "OSError: [Errno 5]" in text
    )  # where it happened, in a process of its own or not
    assert "Traceback" in text and "trainer.py" in text


def test_json_is_one_document(train: Run, copy: Path) -> None:
    said = json.loads(fine(train(copy, *MORE, "--json")).stdout)
    assert said["out"] == str(copy) and said["config"]["learning_rate"] == 2e-3
