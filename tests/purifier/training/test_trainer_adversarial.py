"""Stage adversarial in the one trainer: resumed to the same bits, recorded, validated by its own attacks."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.riae.model import RIAE
from impure.purifier.training.data_source import PairSource
from impure.purifier.training.dry_run import plan
from impure.purifier.training.train_config import Adversary, TrainConfig
from impure.purifier.training.trainer import train
from impure.purifier.training.validation import adaptive_validator
from impure.purifier.training.validation.adaptive_validator import AdaptiveValidator
from tests.purifier.conftest import Brightness
from tests.purifier.training.test_adversarial_objective import classifier
from tests.purifier.training.test_trainer import CPU, Killed, kill_at, log_rows, same, small_preset
from tests.purifier.training.test_trainer import train as train_pairs

__all__ = ["small_preset"]  # a fixture


def config(**values: Any) -> TrainConfig:
    adversary = Adversary(eps=(2, 8), steps=1)
    known = {"epochs": 2, "batch_size": 3, "warmup_epochs": 0, "ema_decay": 0.5, "adversary": adversary}
    return TrainConfig.for_preset("tiny", stage="adversarial", **{**known, **values})


def targets() -> dict[str, nn.Module]:
    return {"one": classifier(0), "other": classifier(1)}


def run(shards: list[CommittedShard], out: Path, **options: Any) -> Path:
    data_source = PairSource(shards, attacked_pairs=False)
    return train(config(), data_source, None, out, CPU, **{"classifiers": targets(), **options})


def test_killed_and_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At another target's turn, in the part of the run with the larger budget."""
    whole = run(shards, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_at(patched, 3)
        run(shards, tmp_path / "killed")
    resumed = run(shards, tmp_path / "killed")
    assert same(whole, resumed)
    losses = [[row["cross_entropy"] for row in log_rows(each)] for each in (whole, resumed)]
    assert losses[0] == losses[1] and float(losses[0][0]) > 0


def test_the_run_says_what_it_was(tmp_path: Path, shards: list[CommittedShard]) -> None:
    out = run(shards, tmp_path)
    written = json.loads((out / "config.json").read_text())
    assert written["train"]["adversary"] == {"eps": [2, 8], "steps": 1, "clean_share": 0.25, "weight": 1.0}
    assert list(written["targets"]) == ["one", "other"] and written["data"]["pairs"] == 6
    assert "Targets attacked through" in (out / "README.md").read_text()
    assert isinstance(RIAE.from_pretrained(out), RIAE)
    with pytest.raises(InputError, match=r"holds another run; it differs in targets\.other"):
        run(shards, tmp_path, classifiers={"one": classifier(0)})


def test_it_begins_with_trained_weights_and_keeps_the_best(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptive_validator, "STEPS", 2)
    first = train_pairs(TrainConfig.for_preset("tiny", epochs=1), shards, None, tmp_path / "first")
    out = tmp_path / "second"
    validator = AdaptiveValidator(
        shards, {"toy": Brightness()}, out, eps=8, images=4, batch_size=4, device=CPU
    )
    run(shards, out, init=first, validator=validator)
    best = validator.best()
    assert best is not None and {row.attack for row in best[1].rows} == {"clean", "adaptive-pgd-ce-e8"}
    kept = json.loads((out / "best" / "config.json").read_text())
    assert kept["epoch"] == best[0] and kept["init"]["origin"] == "impure"
    assert "went through the purifier" in (out / "best" / "README.md").read_text()


def test_a_dry_run_measures_the_attack_too(tmp_path: Path, shards: list[CommittedShard]) -> None:
    source = PairSource(shards, attacked_pairs=False)
    found = plan(config(bf16=True), source, None, tmp_path, CPU, classifiers=targets())
    assert found["composition"] == {"toy/clean": 6} and found["updates"] == 4 and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="needs a classifier"):
        plan(config(), source, None, tmp_path, CPU)


def test_micro_batches_of_an_update_have_one_target(tmp_path: Path, shards: list[CommittedShard]) -> None:
    calls: list[str] = []
    named = targets()
    for name, target in named.items():
        target.register_forward_hook(lambda *_, name=name: calls.append(name))
    source = PairSource(shards, attacked_pairs=False)
    train(config(epochs=1, grad_accum=3), source, None, tmp_path, CPU, classifiers=named)
    assert calls == ["one"] * 6 + ["other"] * 6  # an attack of one step and the loss, three times each
    assert torch.equal(named["one"][1].running_mean, torch.zeros(8))  # type: ignore[index]
