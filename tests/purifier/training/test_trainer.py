import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from impure.manifests.base.errors import InputError, WriteError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.checkpoints import checkpoint
from impure.purifier.riae import riae_config as presets
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig
from impure.purifier.training import trainer as module
from impure.purifier.training.data_source import PairSource
from impure.purifier.training.objectives import riae_objective as objectives
from impure.purifier.training.run_folder import keep_options, only_trainer
from impure.purifier.training.runtime_options import RuntimeOptions
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.train_step import TrainStep
from impure.purifier.training.validation.stored_validator import StoredValidator
from tests.purifier.conftest import SMALL, Brightness, write_collection

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(presets.PRESETS, "tiny", RIAEConfig(**SMALL))  # type: ignore[arg-type]


def config(**values: Any) -> TrainConfig:
    defaults = {"preset": "tiny", "recipe": "pixel", "epochs": 2, "warmup_epochs": 1, "batch_size": 5}
    return TrainConfig(**{**defaults, **values})


def train(
    chosen: TrainConfig,
    shards: list[CommittedShard],
    features: nn.Module | None,
    out: Path,
    *,
    init: Path | None = None,
    validator: StoredValidator | None = None,
    **runtime: Any,
) -> Path:
    data_source = PairSource(shards, clean_pairs=chosen.clean_pairs)
    return module.train(
        chosen,
        data_source,
        features,
        out,
        CPU,
        runtime=RuntimeOptions(**runtime),
        init=init,
        validator=validator,
    )


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    wanted, found = weights(one), weights(other)
    return wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)


def log_rows(run: Path) -> list[dict[str, str]]:
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Killed(BaseException):
    """What no handler catches."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole = TrainStep.update

    def dying(self: TrainStep, micro_batches: Any, done: int, rate: float) -> Tensor:
        if done == step:
            raise Killed
        return whole(self, micro_batches, done, rate)

    monkeypatch.setattr(TrainStep, "update", dying)


def test_run_leaves_weights_config_and_log(tmp_path: Path, shards: list[CommittedShard]) -> None:
    out = train(config(), shards, None, tmp_path / "run")
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
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
    assert isinstance(RIAE.from_pretrained(out), RIAE)


def test_training_learns(tmp_path: Path, shards: list[CommittedShard]) -> None:
    chosen = config(epochs=10, batch_size=1, learning_rate=5e-3, clean_pairs=False)
    losses = [float(row["loss"]) for row in log_rows(train(chosen, shards[:1], None, tmp_path))]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("step", [4, 6])  # an epoch's end, the middle of one
def test_killed_and_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    recipe = {"recipe": "code", "nodes": ("0",), "lambdas": (1.0,), "clip_grad": 1.0, "crop": 8}
    recipe |= {"ema_decay": 0.5, "grad_accum": 2, "variants": 3}
    features = nn.Sequential(nn.Conv2d(3, 4, 3))

    def run(out: Path) -> Path:
        return train(config(**recipe), shards, features, out, checkpoint_seconds=0, log_steps=1)

    whole = run(tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        kill_at(patched, step)
        run(tmp_path / "killed")
    resumed = run(tmp_path / "killed")
    assert same(whole, resumed)
    rows = [[row["step"] for row in log_rows(each)] for each in (whole, resumed)]
    assert rows[0] == rows[1]


def test_finished_run_is_left_alone(tmp_path: Path, shards: list[CommittedShard]) -> None:
    out = train(config(epochs=1), shards, None, tmp_path)
    before = (out / "state.pt").read_bytes()
    train(config(epochs=1), shards, None, tmp_path)
    assert (out / "state.pt").read_bytes() == before


def test_another_config_is_refused_by_name(tmp_path: Path, shards: list[CommittedShard]) -> None:
    out = train(config(epochs=1), shards, None, tmp_path / "run")
    with pytest.raises(InputError, match=r"train\.batch_size \(there 5, now 6\)"):
        train(config(epochs=1, batch_size=6), shards, None, out)
    with pytest.raises(InputError, match=r"data\.pairs"):
        train(config(epochs=1), shards[:1], None, out)


def test_nan_stops_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = objectives.l1

    def broken(output: Tensor, wanted: Tensor, per_position: bool = False) -> Tensor:
        calls.append(1)
        return whole(output, wanted, per_position) * (float("nan") if len(calls) > 4 else 1)

    calls: list[int] = []
    monkeypatch.setattr(objectives, "l1", broken)
    with pytest.raises(InputError, match="no longer finite at step 8"):
        train(config(), shards, None, tmp_path)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(each.isfinite().all() for each in load_file(tmp_path / "model.safetensors").values())


def test_weights_that_are_not_finite_are_never_saved(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainStep, "is_finite", lambda self: False)
    with pytest.raises(InputError, match="no longer finite"):
        train(config(), shards, None, tmp_path)
    assert not list(tmp_path.glob("*.safetensors")) and not (tmp_path / "state.pt").exists()


def test_a_damaged_state(tmp_path: Path, shards: list[CommittedShard]) -> None:
    out = train(config(epochs=1), shards, None, tmp_path)
    (out / "state.pt").write_bytes((out / "state.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match=r"state\.pt: not a readable training state"):
        train(config(epochs=1), shards, None, out)


def test_unwritable_folder(tmp_path: Path, shards: list[CommittedShard]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        train(config(), shards, None, tmp_path / "file" / "run")


def test_full_disk(tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WriteError, match="No space left"):
        train(config(), shards, None, tmp_path)
    assert not list(tmp_path.glob("*state*")) and not list(tmp_path.rglob("*.tmp"))


def test_feature_network_must_fit_the_recipe(tmp_path: Path, shards: list[CommittedShard]) -> None:
    with pytest.raises(InputError, match="needs its feature network 'torchvision:vgg19_bn'"):
        train(config(recipe="code"), shards, None, tmp_path)
    with pytest.raises(InputError, match="takes none"):
        train(config(), shards, Brightness(), tmp_path)


def test_mixed_sizes_and_workers(tmp_path: Path) -> None:
    shards = write_collection(tmp_path / "data", sizes=((16, 16), (24, 16)))
    one = train(config(epochs=1), shards, None, tmp_path / "one")
    two = train(config(epochs=1), shards, None, tmp_path / "two", workers=1)
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


def test_what_a_kill_left_half_written_goes(tmp_path: Path, shards: list[CommittedShard]) -> None:
    (tmp_path / "best").mkdir()
    for name in (".state.pt.0123.tmp", "best/.model.safetensors.4567.tmp"):
        (tmp_path / name).write_bytes(b"half")
    train(config(epochs=1), shards, None, tmp_path)
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("name", ["_write_weights", "torch.save"])
def test_killed_while_the_last_checkpoint_is_written(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written = getattr(checkpoint, name) if name.startswith("_") else torch.save
    calls: list[int] = []

    def dying(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        written(*arguments)

    whole = train(config(), shards, None, tmp_path / "whole")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(f"impure.purifier.checkpoints.checkpoint.{name}", dying)
        train(config(), shards, None, tmp_path / "killed")
    assert same(whole, train(config(), shards, None, tmp_path / "killed"))


def test_only_one_trainer_in_a_folder(tmp_path: Path, shards: list[CommittedShard]) -> None:
    with only_trainer(tmp_path), pytest.raises(InputError, match="another process trains there"):
        train(config(), shards, None, tmp_path)
    train(config(epochs=1), shards, None, tmp_path)


def test_images_of_another_size(tmp_path: Path) -> None:
    shards = write_collection(tmp_path / "data", sizes=((16, 16), (4, 16)))
    with pytest.raises(InputError, match="images of 4 pixels, and the network takes multiples of 8"):
        train(config(), shards, None, tmp_path / "run")
    with pytest.raises(InputError, match="a training crop of 16 pixels"):
        train(config(crop=16), shards, None, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_options_are_kept_but_never_over_a_file_of_the_users(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.yaml", tmp_path / "theirs.yaml"
    theirs.write_text("# mine\nlr: 1\n")
    for options in ("lr: 2\n", "lr: 3\n"):
        keep_options(ours, options)
        keep_options(theirs, options)
    assert ours.read_text().endswith("\nlr: 3\n") and theirs.read_text() == "# mine\nlr: 1\n"


def test_the_bar_says_when_it_compiles(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    train(config(epochs=1, batch_size=6, compiled=True), shards, None, tmp_path, progress=True)
    assert capsys.readouterr().err.count("compiling for 6 images of 16x16, about a minute") == 1
