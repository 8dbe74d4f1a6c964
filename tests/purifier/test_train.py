import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from impure.manifests.collection import Committed
from impure.manifests.errors import InputError
from impure.purifier import riae, runs
from impure.purifier import train as module
from impure.purifier.checkpoint import load_riae
from impure.purifier.riae import RIAE, RIAEConfig
from impure.purifier.runs import TrainConfig, learning_rate
from impure.purifier.train import train

from .conftest import SMALL, Brightness, write_collection

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(riae.PRESETS, "tiny", RIAEConfig(**SMALL))  # type: ignore[arg-type]


def config(**values: Any) -> TrainConfig:
    defaults = {"preset": "tiny", "recipe": "pixel", "epochs": 2, "warmup_epochs": 1, "batch_size": 5}
    return TrainConfig(**{**defaults, **values})


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Killed(BaseException):
    """What no handler catches."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = module._Trainer.train_step

    def dying(self: Any, pairs: Tensor) -> Tensor:
        if self.done == step:
            raise Killed
        return whole(self, pairs)

    monkeypatch.setattr(module._Trainer, "train_step", dying)


def test_run_leaves_weights_config_and_log(tmp_path: Path, units: list[Committed]) -> None:
    out = train(config(), units, None, tmp_path / "run", CPU)
    assert sorted(path.name for path in out.iterdir()) == [
        "config.json",
        "log.csv",
        "model.safetensors",
        "state.pt",
    ]
    written = json.loads((out / "config.json").read_text())
    assert written["train"]["batch_size"] == 5 and written["data"]["pairs"] == 18
    rows = log_rows(out)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "4"), ("2", "8")]
    assert float(rows[1]["pixel"]) == float(rows[1]["loss"]) and float(rows[1]["learning_rate"]) < 1e-4
    assert isinstance(load_riae(out), RIAE)


def test_training_learns(tmp_path: Path, units: list[Committed]) -> None:
    chosen = config(epochs=10, batch_size=1, learning_rate=5e-3, clean_pairs=False)
    losses = [float(row["loss"]) for row in log_rows(train(chosen, units[:1], None, tmp_path, CPU))]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("step", [4, 6])  # an epoch's end, the middle of one
def test_killed_and_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, units: list[Committed], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    recipe = {"recipe": "code", "nodes": ("0",), "lambdas": (1.0,), "grad_clip": 1.0, "crop": 8}
    features = nn.Sequential(nn.Conv2d(3, 4, 3))

    def run(out: Path) -> Path:
        return train(config(**recipe), units, features, out, CPU, checkpoint_seconds=0)

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_at(patched, step)
        run(tmp_path / "killed")
    resumed = run(tmp_path / "killed")
    wanted, found = (load_file(each / "model.safetensors") for each in (whole, resumed))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    rows = [[row["step"] for row in log_rows(each)] for each in (whole, resumed)]
    assert rows[0] == rows[1]


def test_finished_run_is_left_alone(tmp_path: Path, units: list[Committed]) -> None:
    out = train(config(epochs=1), units, None, tmp_path, CPU)
    before = (out / "state.pt").read_bytes()
    train(config(epochs=1), units, None, tmp_path, CPU)
    assert (out / "state.pt").read_bytes() == before


def test_another_config_is_refused_by_name(tmp_path: Path, units: list[Committed]) -> None:
    out = train(config(epochs=1), units, None, tmp_path / "run", CPU)
    with pytest.raises(InputError, match=r"train\.batch_size \(there 5, now 6\)"):
        train(config(epochs=1, batch_size=6), units, None, out, CPU)
    with pytest.raises(InputError, match=r"data\.pairs"):
        train(config(epochs=1), units[:1], None, out, CPU)
    with pytest.raises(InputError, match="holds a run already"):
        train(config(epochs=1), units, None, out, CPU, resume=False)


def test_nan_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, units: list[Committed], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = module.l1

    def broken(output: Tensor, wanted: Tensor, per_position: bool = False) -> Tensor:
        calls.append(1)
        return whole(output, wanted, per_position) * (float("nan") if len(calls) > 4 else 1)

    calls: list[int] = []
    monkeypatch.setattr(module, "l1", broken)
    with pytest.raises(InputError, match="no longer finite at step 8"):
        train(config(), units, None, tmp_path, CPU)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(each.isfinite().all() for each in load_file(tmp_path / "model.safetensors").values())


def test_damaged_or_foreign_state(tmp_path: Path, units: list[Committed]) -> None:
    out = train(config(epochs=1), units, None, tmp_path, CPU)
    (out / "state.pt").write_bytes((out / "state.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt: not a readable training state"):
        train(config(epochs=1), units, None, out, CPU)


def test_unwritable_folder(tmp_path: Path, units: list[Committed]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        train(config(), units, None, tmp_path / "file" / "run", CPU)


def test_full_disk(tmp_path: Path, units: list[Committed], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match="No space left"):
        train(config(), units, None, tmp_path, CPU)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "log.csv"]


def test_feature_network_must_fit_the_recipe(tmp_path: Path, units: list[Committed]) -> None:
    with pytest.raises(InputError, match="needs its feature network 'torchvision:vgg19_bn'"):
        train(config(recipe="code"), units, None, tmp_path, CPU)
    with pytest.raises(InputError, match="takes none"):
        train(config(), units, Brightness(), tmp_path, CPU)


def test_mixed_sizes_and_workers(tmp_path: Path) -> None:
    units = write_collection(tmp_path / "data", sizes=((16, 16), (24, 16)))
    one = train(config(epochs=1), units, None, tmp_path / "one", CPU)
    two = train(config(epochs=1), units, None, tmp_path / "two", CPU, workers=1)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_schedule_and_decay(units: list[Committed]) -> None:
    plan = TrainConfig(epochs=10, warmup_epochs=2, learning_rate=1.0)
    rates = [learning_rate(plan, step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == pytest.approx(1.0) == pytest.approx(rates[10])
    assert rates[30] == pytest.approx(0.5, abs=1e-6) and rates[49] < 0.01
    model = RIAE(replace(riae.PRESETS["tiny"], mask="occlusion"))
    decayed, plain = module._groups(model, plan)
    names = {id(each): name for name, each in model.named_parameters()}
    assert {"class_token", "mask_token", "fusion_logits", "encoder_norm.weight"} <= {
        names[id(each)] for each in plain["params"]
    }
    assert all(names[id(each)].endswith("weight") for each in decayed["params"])
    assert decayed["weight_decay"] == 0.05 and plain["weight_decay"] == 0


def test_config_checks() -> None:
    assert TrainConfig().loss.lambdas == {"features.38": 30, "features.51": 10, "classifier.1": 10}
    changed = TrainConfig(nodes=("a",), lambdas=(2.0,), feature_network="target")
    assert changed.loss.lambdas == {"a": 2.0} and changed.loss.network == "target"
    assert TrainConfig.for_preset("base", epochs=3).warmup_epochs == 1
    assert TrainConfig.for_preset("tiny").learning_rate == runs.TRAINING["tiny"]["learning_rate"]
    for values, word in (
        ({"epochs": 0}, "epochs is 0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"warmup_epochs": 101}, "exceeds epochs 100"),
        ({"recipe": "best"}, "choose from code, paper, pixel"),
        ({"nodes": ("a",)}, "1 nodes but 0 lambdas"),
        ({"preset": "huge"}, "no RIAE preset"),
    ):
        with pytest.raises(InputError, match=word):
            TrainConfig(**values)  # type: ignore[arg-type]
