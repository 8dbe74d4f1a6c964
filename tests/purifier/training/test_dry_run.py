"""A dry run counts, measures one update, refuses what training refuses, and writes nothing."""

from pathlib import Path

import pytest
from PIL import Image
from torch import nn

from impure.manifests.base.errors import InputError, WriteError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.data import photos
from impure.purifier.riae.model import RIAE
from impure.purifier.training.data_source import PairSource, PhotoSource
from impure.purifier.training.dry_run import TrainPlan, plan
from impure.purifier.training.train_config import TrainConfig
from tests.purifier.training.test_trainer import CPU, config, log_rows, small_preset, train

__all__ = ["small_preset"]  # a fixture


def planned(
    chosen: TrainConfig,
    shards: list[CommittedShard],
    out: Path,
    features: nn.Module | None = None,
    world: int = 1,
) -> TrainPlan:
    return plan(chosen, PairSource(shards), features, out, CPU, world=world)


def test_it_counts_what_a_run_does_and_finds_the_run(tmp_path: Path, shards: list[CommittedShard]) -> None:
    found = planned(config(), shards, tmp_path / "run")
    assert (found["images_an_epoch"], found["updates_an_epoch"], found["updates"]) == (18, 4, 8)
    assert found["composition"] == {"toy/clean": 6, "toy/fgsm": 6, "toy/pgd": 6}
    assert found["seconds_an_update"] > 0 and found["hours"] > 0 and found["peak_gib"] is None
    assert (found["run"], found["out"]) == ("new", str(tmp_path / "run")) and not list(tmp_path.iterdir())
    out = train(config(), shards, None, tmp_path / "run")
    model = RIAE.from_pretrained(out)
    assert found["parameters"] == sum(each.numel() for each in model.parameters())
    assert int(log_rows(out)[-1]["step"]) == found["updates"]
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert planned(config(), shards, out)["run"] == "goes on"
    assert planned(config(epochs=5), shards, out)["run"] == "goes on with more epochs"
    with pytest.raises(InputError, match="holds another run; it differs in train.batch_size"):
        planned(config(batch_size=6), shards, out)
    assert before == {path: path.read_bytes() for path in out.iterdir()}


def test_it_refuses_what_training_refuses(tmp_path: Path, shards: list[CommittedShard]) -> None:
    with pytest.raises(InputError, match="needs its feature network"):
        planned(config(recipe="code"), shards, tmp_path)
    with pytest.raises(InputError, match="no node 'nowhere'"):
        chosen = config(feature_network="x", nodes=("nowhere",), lambdas=(1.0,))
        planned(chosen, shards, tmp_path, nn.Sequential(nn.Conv2d(3, 2, 3)))
    assert planned(config(), shards, tmp_path, world=2)["ranks"] == 2
    with pytest.raises(InputError, match="more ranks than images"):
        planned(config(), shards, tmp_path, world=6)
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file: cannot be written"):
        planned(config(), shards, tmp_path / "file")


def test_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEAST_SIDE", "MOST_SIDE"):
        monkeypatch.setattr(photos, name, 8)
    source = PhotoSource(lambda index: Image.new("RGB", (16, 16)), ["a", "b", "c"])
    found = plan(config(stage="pretrain", batch_size=2), source, None, tmp_path, CPU)
    assert found["composition"] == {"photographs": 3} and found["updates"] == 4
