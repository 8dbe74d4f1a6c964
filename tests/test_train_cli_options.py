"""The options of `impure-train`: what reaches the configuration, and what is one clear line."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from impure.pipeline import devices
from impure.purifier.training import profile_updates
from tests.common import PLAIN, one_line
from tests.test_train_cli import Run, contents, fine, planned


def test_a_dry_run_says_what_and_writes_nothing(
    run: Run, collection_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = ("train", "--shards", collection_root, *PLAIN, "--grad-accum-steps", 2, "--dry-run")
    found = planned(run(*asked, "--json"))
    assert (found["model"], found["images_an_epoch"], found["ranks"]) == ("tiny", 27, 1)
    assert found["updates"] == found["updates_an_epoch"] * found["epochs"] == 3
    assert found["composition"] == {"small/clean": 9, "small/fgsm": 9, "small/pgd": 9}
    assert (found["out"], found["run"]) == ("impure-runs/root-tiny", "new")
    said = fine(run(*asked)).stdout
    assert "updates an epoch: 3" in said and "peak gib: unknown on a CPU" in said and "small/pgd 9" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--features", "{card}", "--feature-node", "nowhere=1"), "no node 'nowhere'"),
        (
            (
                "--features",
                "torchvision:squeezenet1_1",
                "--feature-node",
                "features.0=1",
                "--feature-weights",
                "{none}",
            ),
            "none.pth",
        ),
        (("--init", "{none}"), "none.pth: no checkpoint there"),
        (("--validate", "validation"), "made on target 'small'; give it with --target"),
        (("--out", "{file}"), "file: cannot be written"),
    ],
)
def test_a_dry_run_refuses_what_training_refuses(
    train: Run, card: Path, tmp_path: Path, more: tuple[str, ...], said: str
) -> None:
    (tmp_path / "file").write_text("")
    places = {"card": card, "none": tmp_path / "none.pth", "file": tmp_path / "file"}
    asked = [word.format(**places) for word in more]
    one_line(train(tmp_path / "run", "--dry-run", *asked), said)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("more", "found"),
    [
        (("--blr", "1e-3"), {"learning_rate": 1e-3 * 9 / 256}),
        (("--epochs", 20), {"warmup_epochs": 1}),
        (("--mask", "occlusion", "--decoder", "cross"), {"mask": "occlusion", "decoder": "cross"}),
        (("--warmup-epochs", 0, "--clip-grad", 1), {"warmup_epochs": 0, "clip_grad": 1}),
        (("--crop", 24, "--weight-decay", 0), {"crop": 24, "weight_decay": 0}),
        (("--recipe", "pixel", "--bf16"), {"recipe": "pixel", "bf16": True}),
        (("--subsets", 2, "--epochs", 4, "--lr-cycles", 2), {"subsets": 2, "lr_cycles": 2}),
        (("--attacks", "pgd", "--split", "test"), {"clean_pairs": True}),
    ],
)  # fmt: skip
def test_options_reach_the_config(train: Run, tmp_path: Path, more: tuple[Any, ...], found: Any) -> None:
    config = planned(train(tmp_path / "run", *more, "--dry-run", "--json"))["config"]
    assert {name: config[name] for name in found} == found


@pytest.mark.parametrize(("world", "model", "threads"), [(1, "tiny", 1), (1, "small", 8), (4, "small", 2)])
def test_threads_are_the_share_of_a_rank_or_one_for_the_tiny_network(
    run: Run,
    collection_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    world: int,
    model: str,
    threads: int,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(devices, "cores", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(world))
    fine(run("train", "--shards", collection_root, "--model", model, "--recipe", "pixel", "--dry-run"))
    assert asked == [threads]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--pretrain",), "--pretrain learns from photographs: give --images"),
        (("--images", "builtin"), "--images and --labels are for --pretrain"),
        ((), "nothing to train on"),
        (("--pretrain", "--images", "/nowhere"), "/nowhere: no such folder"),
        (("--pretrain", "--images", "builtin", "--shards", "x"), "--pretrain learns from photographs"),
        (("--pretrain", "--images", "builtin", "--validate", "test"), "--validate is for training on pairs"),
        (("--pretrain", "--images", "builtin", "--split", "val"), "--split is for training on pairs"),
        (("--pretrain", "--images", "builtin", "--recipe", "code"), "pre-training takes recipe pixel"),
    ],
)
def test_pairs_and_photographs_do_not_mix(run: Run, tmp_path: Path, more: tuple[Any, ...], said: str) -> None:
    one_line(run("train", *PLAIN, "--out", tmp_path / "run", *more), said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "said", "code"),
    [
        (("--attacks", "nothing"), "nothing.*has clean, fgsm, pgd|has clean, fgsm, pgd", 1),
        (("--split", "dev"), "has test, train, validation", 1),
        (("--lr", 1, "--blr", 1), "--lr and --blr both set the learning rate", 1),
        (("--lr", "nan"), "learning_rate is nan", 1),
        (("--model-ema-decay", 1), "ema_decay is 1.0; it must be below 1", 1),
        (("--clip-grad", -1), "clip_grad is -1", 1),
        (("--warmup-epochs", 2), "warmup_epochs 2 exceeds epochs 1", 1),
        (("--crop", 1000), "crop", 1),
        (("--recipe", "code"), "vgg19_bn.*--feature-weights", 1),
        (("--features", "torchvision:vgg11"), "'pixel' brings no feature loss; give --feature-node", 1),
        (("--feature-node", "features.0=1"), "brings no feature loss; give --features NETWORK", 1),
        (("--recipe", "code", "--feature-node", "features.0"), "'features.0': write NODE=WEIGHT", 1),
        (("--recipe", "code", "--feature-node", "features.0=nan"), "write NODE=WEIGHT", 1),
        (("--feature-weights", "x.pth"), "recipe 'pixel' has no feature network", 1),
        (("--model", "dir-joint"), "dir-joint begins with a run of --model dir; give --init RUN", 1),
        (("--device", "cuda:77"), "cuda:77", 1),
        (("--mask", "noise"), "'noise' is not one of", 2),
        (("--grad-accum-steps", 20), "batch", 1),
    ],
)  # fmt: skip
def test_bad_options_are_one_clear_line(
    train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[Any, ...], said: str, code: int
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    one_line(train(tmp_path / "run", *more), said, code)
    assert contents(tmp_path / "run") == {}


def test_of_a_dry_run_other_ranks_leave_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert fine(run("train", "--shards", "/nowhere", "--dry-run")).output == ""


def test_a_profile_trains_nothing(train: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WARM_UP", "TIMED", "RECORDED"):
        monkeypatch.setattr(profile_updates, name, 1)
    done = fine(train(tmp_path / "run", "--profile", tmp_path / "trace.json.gz"))
    assert re.search(r"^An update: [\d.]+ ms, [\d.]+ images/s; waiting for data [\d.]+% ", done.stdout)
    assert "| aten::" in done.stdout and "Nothing was trained" in done.stdout
    assert json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))["traceEvents"]
    assert not (tmp_path / "run").exists()
