"""Asked to stop, a run saves first; the same command goes on, with more epochs too."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.checkpoints.checkpoint import load_state
from impure.purifier.training.stop_signals import SIGNALS, TrainingStopped, stop_signals
from impure.purifier.training.train_step import TrainStep
from tests.purifier.training.test_trainer import config, log_rows, same, small_preset, train

__all__ = ["small_preset"]  # a fixture


def signal_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send this process a signal in the middle of an update."""
    whole = TrainStep.update

    def update(self: TrainStep, micro_batches: Any, done: int, rate: float) -> Tensor:
        if done == step:
            os.kill(os.getpid(), number)
        return whole(self, micro_batches, done, rate)

    monkeypatch.setattr(TrainStep, "update", update)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_saves_the_update_in_work_and_the_run_ends_with_the_same_bits(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch, number: int, workers: int
) -> None:
    whole = train(config(), shards, None, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(TrainingStopped, match="after step 3") as stopped:
        signal_at(patched, 2, number)
        train(config(), shards, None, tmp_path / "stopped", workers=workers)
    assert stopped.value.exit_code == 128 + number
    assert load_state(tmp_path / "stopped")["step"] == 3
    assert same(whole, train(config(), shards, None, tmp_path / "stopped"))
    assert [row["step"] for row in log_rows(tmp_path / "stopped")] == ["3", "4", "8"]


def test_a_second_ctrl_c_does_not_wait_and_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(KeyboardInterrupt), stop_signals() as request:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # handed on by torchrun
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.received == signal.SIGINT
        request.since -= 2
        os.kill(os.getpid(), signal.SIGINT)
    with stop_signals():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_a_signal_in_the_last_update_changes_nothing(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    signal_at(monkeypatch, 3, signal.SIGTERM)
    assert load_state(train(config(epochs=1), shards, None, tmp_path))["epoch"] == 1


def test_a_run_says_where_it_goes_on_and_that_it_was_finished(
    tmp_path: Path,
    shards: list[CommittedShard],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patched, pytest.raises(TrainingStopped):
        signal_at(patched, 4, signal.SIGTERM)
        train(config(), shards, None, tmp_path)
    train(config(), shards, None, tmp_path, progress=True)
    assert "going on after step 5 of 8 (1 epochs)" in capsys.readouterr().err
    train(config(), shards, None, tmp_path, progress=True)
    assert "finished before; a larger --epochs goes on" in capsys.readouterr().err


def test_a_further_cycle_goes_on_as_if_the_run_had_begun_with_it(
    tmp_path: Path, shards: list[CommittedShard]
) -> None:
    whole = train(config(epochs=4, lr_cycles=2), shards, None, tmp_path / "whole")
    train(config(epochs=2), shards, None, tmp_path / "extended")
    assert same(whole, train(config(epochs=4, lr_cycles=2), shards, None, tmp_path / "extended"))


def test_more_epochs_go_on_and_are_recorded_and_fewer_are_refused(
    tmp_path: Path, shards: list[CommittedShard]
) -> None:
    train(config(epochs=1), shards, None, tmp_path)
    begun = read_json(tmp_path / "config.json")
    assert begun["train"].pop("crop") is None  # as if that option were younger than the run
    (tmp_path / "config.json").write_text(json.dumps(begun))
    train(config(epochs=3), shards, None, tmp_path)
    assert [row["step"] for row in log_rows(tmp_path)] == ["4", "8", "12"]
    written = read_json(tmp_path / "config.json")
    assert (written["train"]["epochs"], written["extended_from"]) == (3, [1])
    with pytest.raises(InputError, match=r"train\.epochs \(there 3, now 2\)"):
        train(config(epochs=2), shards, None, tmp_path)
    with pytest.raises(InputError, match=r"train\.batch_size"):
        train(config(epochs=4, batch_size=6), shards, None, tmp_path)
