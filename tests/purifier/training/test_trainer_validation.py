"""Validation while a run trains: what it keeps, and that it changes nothing."""

import json
from pathlib import Path

import pytest

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.riae.model import RIAE
from impure.purifier.training import trainer as module
from impure.purifier.training.validation.stored_validator import StoredValidator
from tests.purifier.conftest import Brightness
from tests.purifier.training.test_trainer import (  # noqa: F401 - a fixture
    CPU,
    Killed,
    config,
    log_rows,
    same,
    small_preset,
    train,
)


def validator_of(shards: list[CommittedShard], out: Path) -> StoredValidator:
    return StoredValidator(shards, {"toy": Brightness()}, out, images=4, batch_size=4, device=CPU)


def test_validation_changes_no_weight_and_keeps_the_best(
    tmp_path: Path, shards: list[CommittedShard]
) -> None:
    plain = train(config(epochs=3), shards, None, tmp_path / "plain")
    validated = tmp_path / "validated"
    train(config(epochs=3), shards, None, validated, validator=validator_of(shards, validated))
    assert same(plain, validated)
    best = validator_of(shards, validated).best()
    assert best is not None and 1 <= best[0] <= 3
    kept = json.loads((validated / "best" / "config.json").read_text())
    assert kept["epoch"] == best[0] and isinstance(RIAE.from_pretrained(validated / "best"), RIAE)
    assert sorted(path.name for path in (validated / "validation").iterdir()) == [
        f"epoch-000{epoch}.jpg" for epoch in (1, 2, 3)
    ]


def test_killed_while_validating(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of an epoch that is taken again are replaced, and the best weights are those of the table."""

    def run(out: Path) -> Path:
        return train(config(epochs=4), shards, None, out, validator=validator_of(shards, out))

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(module, "save_weights", raise_killed)
        run(tmp_path / "killed")
    resumed = run(tmp_path / "killed")
    assert same(whole, resumed) and same(whole / "best", resumed / "best")
    assert (whole / "validation.csv").read_bytes() == (resumed / "validation.csv").read_bytes()


def raise_killed(*_: object) -> None:
    raise Killed


def test_validation_every_other_epoch(tmp_path: Path, shards: list[CommittedShard]) -> None:
    out = tmp_path / "run"
    train(config(epochs=3), shards, None, out, validator=validator_of(shards, out), validate_epochs=2)
    assert sorted(path.name for path in (out / "validation").iterdir()) == [
        "epoch-0002.jpg",
        "epoch-0003.jpg",
    ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TensorBoard's own
def test_tensorboard(tmp_path: Path, shards: list[CommittedShard]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = tmp_path / "run"
    train(config(), shards, None, out, validator=validator_of(shards, out), tensorboard=True)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("train/loss")]
    wanted = [(int(row["step"]), pytest.approx(float(row["loss"]))) for row in log_rows(out)]
    assert found == wanted and len(events.Scalars("validation/attacked")) == 2
