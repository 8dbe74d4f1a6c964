"""The benchmarks run, and say under which conditions."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from impure.pipeline.attacks.engine.rng import KeyedRng
from impure.pipeline.attacks.engine.threat_model import make_problem
from impure.pipeline.generation import attack_batches

ROOT = Path(__file__).parents[1]


def measured(name: str, *options: object) -> dict[str, Any]:
    """What a benchmark prints with these options."""
    words = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *options]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_pipeline_benchmark_reports_figures_with_their_conditions(imagenet, card):
    options = "--attack fgsm --per-class 2 --shard-size 4 --batch-size 4 --threads 1 --rounds 1 --json"
    document = measured("pipeline", "--images", imagenet, "--target", card, *options.split())
    assert {"date", "device", "threads", "target", "batch_size"} <= set(document["conditions"])
    (flow,) = document["flows"]
    assert flow["attack"] == "fgsm" and flow["ratio"] > 0 and flow["limited_by"] in flow["busy"]
    assert {(way["encoding"], way["profile"]) for way in document["writing"]} == {
        (encoding, profile) for encoding in ("png", "webp") for profile in ("pairs", "clean-once", "delta")
    }


def test_the_chain_behind_the_attack_is_measured_without_the_attack(imagenet, card, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: None)
    monkeypatch.setattr(
        attack_batches, "_run_attack", attack_batches._run_attack
    )  # to be as before afterwards
    main = importlib.import_module("behind_attack").main
    options = "--count 4 --attacks 2 --shard-size 2 --encoding webp"
    done = CliRunner().invoke(main, ["--images", str(imagenet), "--target", str(card), *options.split()])
    chain = json.loads(done.stdout)
    assert chain["pairs"] == 8 and chain["pairs_per_core_second"] > 0
    assert {"encode", "write", "commit"} <= set(chain["busy"])


def test_the_attack_benchmark_reports_figures_with_their_conditions():
    options = "--device cpu --threads 1 --model resnet18 --size 32 --batch-size 2 --rounds 1"
    attacks = "--attack fgsm --attack pgd --json"
    document = measured("attacks", *options.split(), *attacks.split())
    asked = {"threads": 1, "model": "resnet18", "size": 32, "batch_size": 2, "rounds": 1, "precision": "fp32"}
    conditions = document["conditions"]
    assert {name: conditions[name] for name in asked} == asked
    assert all(conditions[name] for name in ("date", "device", "versions"))
    section, other = document["attacks"]
    rows = {row["name"]: row for row in section["rows"]}
    assert rows["gradients alone"]["ratio"] == 1
    assert {"impure", "torchattacks", "cleverhans", "plain loop, network as built"} < set(rows)
    assert section["attack"] == "fgsm" and section["grad_evals"] == [1, 1] and other["attack"] == "pgd"
    assert all(isinstance(goal["met"], bool) for goal in section["goals"])


def test_an_image_outside_the_valid_range_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever libraries propose is projected to [0, 1] first; this target errs only beyond."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    norms = importlib.import_module("norms")
    clean, labels = torch.zeros(1, 1, 1, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    rng = KeyedRng(seed=0, attack="norms", source_ids=("a",))

    def success(beyond: float) -> tuple[float, float]:
        def target(images: torch.Tensor) -> torch.Tensor:
            return torch.stack([torch.full((len(images),), beyond), images.flatten(1).amax(1)], 1)

        problem = make_problem(target, clean, labels, 255, rng, torch.float32)
        runs = {"theirs": norms.Contender(library="theirs", run=lambda *_: torch.full((1, 1, 1, 2), 1.5))}
        (row,) = norms.contest(target, problem, "cw", runs)
        return row.success, row.l2

    assert success(1.2)[0] == 0
    assert success(0.9) == (1, pytest.approx(2**0.5))


@pytest.mark.slow
def test_the_training_benchmark_reports_figures_with_their_conditions() -> None:
    options = "--device cpu --threads 1 --size 32 --batch-size 1 --rounds 1 --decoder cross --json"
    document = measured("train", *options.split())
    assert document["conditions"]["decoder"] == "cross" and document["conditions"]["size"] == 32
    products, plain, ours, update = document["rows"]
    assert products["share"] == pytest.approx(1) and plain["speed"] == pytest.approx(1)
    assert 0 < ours["gflop_per_image"] < plain["gflop_per_image"] and update["images_per_second"] > 0
    assert [goal["limit"] for goal in document["goals"]] == [0.85, 1.05]
