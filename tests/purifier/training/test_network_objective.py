"""A defence's network is trained as RIAE is: resumed exactly, averaged, validated, saved, opened again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences import defence_registry as registry
from impure.purifier.defences import model_names
from impure.purifier.defences.model_names import Model
from impure.purifier.defences.open_checkpoint import open_checkpoint
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.trainable import (
    FeatureDefault,
    Features,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.training.data_source import PairSource
from impure.purifier.training.objectives.open_objective import open_objective
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.trainer import train
from impure.purifier.training.validation.stored_validator import StoredValidator
from tests.purifier.conftest import Brightness

CPU = torch.device("cpu")


class ToyNetwork(TrainableNetwork):
    """One convolution and a BatchNorm, whose statistics are no parameters."""

    name = "toy"
    loss_names = ("loss", "twice")

    def __init__(self, *, width: int = 4) -> None:
        super().__init__()
        if not 1 <= width <= 64:
            raise InputError(f"toy: width is {width}; it must be from 1 to 64")
        self.width = width
        self.net = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width), nn.Conv2d(width, 3, 1))

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        noise = torch.rand(images.adversarial.shape, generator=generator)
        loss = (self.net(images.adversarial + noise / 9) - images.clean[images.clean_row]).square().mean()
        return torch.stack([loss, 2 * loss])


class WithFeatures(ToyNetwork):
    """Takes the logits of a classifier into its loss."""

    name = "with-features"
    features = FeatureDefault()

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        assert features is not None
        (logits,) = features(self.net(images.adversarial))
        return torch.stack([logits.square().mean(), logits.mean()])


class Toy(NetworkDefence):
    """The network's output."""

    network_kind = ToyNetwork

    def __init__(self, network: ToyNetwork) -> None:
        super().__init__()
        self.network = network.eval()

    def defend(self, images: Tensor) -> Tensor:
        return self.network.net(images).clamp(0, 1)


class ToyWithFeatures(Toy):
    """The same with the other loss."""

    network_kind = WithFeatures


@pytest.fixture(autouse=True)
def toy_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.NETWORKS, "toy", Toy)
    monkeypatch.setitem(registry.DEFENCES, "toy-defence", registry.Entry(Toy))
    monkeypatch.setitem(registry.NETWORKS, "with-features", ToyWithFeatures)
    training: dict[str, Any] = {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2}
    for name in ("toy", "with-features"):
        monkeypatch.setitem(
            model_names.MODELS, name, Model(network=name, sizes={"width": 5}, training=training)
        )


def run(shards: list[CommittedShard], out: Path, **values: Any) -> Path:
    config = TrainConfig.for_preset("toy", **values)
    validator = StoredValidator(shards, {"toy": Brightness()}, out, images=4, batch_size=4, device=CPU)
    return train(config, PairSource(shards), None, out, CPU, validator=validator)


def test_a_run_is_saved_validated_and_opened(shards: list[CommittedShard], tmp_path: Path) -> None:
    out = run(shards, tmp_path / "run")
    config = json.loads((out / "config.json").read_text())
    assert config["network"] == {"name": "toy", "width": 5} and "riae" not in config
    header, *rows = (out / "log.csv").read_text().splitlines()
    assert header == "epoch,step,loss,twice,learning_rate,images_per_second" and len(rows) == 2
    assert {line.split(",")[3] for line in (out / "validation.csv").read_text().splitlines()[1:]} == {
        "none",
        "toy",
    }
    for folder in (out, out / "best"):
        name, defence = open_checkpoint(folder)
        assert name == "toy-defence" and isinstance(defence, Toy) and not defence.training
    assert "# toy: a defence" in (out / "README.md").read_text()


def test_a_longer_run_ends_with_the_bits_of_one_in_a_piece(
    shards: list[CommittedShard], tmp_path: Path
) -> None:
    """Statistics of BatchNorm and the average of the weights go on as well."""
    values = {"ema_decay": 0.5, "warmup_epochs": 0}
    whole = run(shards, tmp_path / "whole", epochs=2, **values)
    first = tmp_path / "parts"
    stopped = TrainConfig.for_preset("toy", epochs=2, **values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("impure.purifier.training.trainer._Trainer._batches", _one_epoch)
        train(stopped, PairSource(shards), None, first, CPU)
    assert json.loads((first / "config.json").read_text())["train"]["epochs"] == 2
    run(shards, first, epochs=2, **values)
    one, other = (load_file(folder / "model.safetensors") for folder in (whole, first))
    assert "net.1.running_var" in one
    assert all(torch.equal(one[name], other[name]) for name in one)


def _one_epoch(trainer: Any, loader: Any) -> Any:
    trainer.order.epoch = trainer.order.start = 0
    for batch in loader:
        yield [batch]


def test_sizes_of_strangers_and_other_networks_are_refused(
    shards: list[CommittedShard], tmp_path: Path
) -> None:
    out = run(shards, tmp_path / "run", epochs=1, warmup_epochs=0)
    config = json.loads((out / "config.json").read_text())
    for network, message in (
        ({"name": "toy", "width": 10**9}, "width is 1000000000; it must be from 1 to 64"),
        ({"name": "toy", "width": "5"}, "width is '5'; it must be a whole number"),
        ({"name": "toy", "depth": 5}, "no parameter 'depth'; there are width"),
        ({"name": "toy", "width": 6}, "not of this architecture"),
        ({"name": "magic"}, "no network 'magic'; known are riae, "),
        ({"name": ["toy"]}, "has no 'riae' object"),
    ):
        (out / "config.json").write_text(json.dumps({**config, "network": network}))
        with pytest.raises(InputError, match=message):
            open_checkpoint(out)


def test_the_feature_network_is_frozen_and_needed() -> None:
    config = TrainConfig.for_preset("with-features")
    with pytest.raises(InputError, match="needs a feature network"):
        open_objective(config, None)
    with pytest.raises(InputError, match="'toy' takes no feature network"):
        open_objective(TrainConfig.for_preset("toy"), Brightness())
    classifier = nn.Sequential(nn.Flatten(), nn.LazyLinear(2), nn.Dropout(0.5))
    classifier(torch.zeros(1, 3, 4, 4))
    objective = open_objective(config, classifier)
    images = torch.rand(2, 3, 4, 4)
    batch = TrainingImages(images, images, torch.arange(2), torch.arange(2))
    losses = objective.losses(objective.trained, batch, Generator())
    losses[0].backward()
    assert losses.shape == (2,) and not classifier.training
    assert all(weight.grad is None for weight in classifier.parameters())
    assert all(weight.grad is not None for weight in objective.model.parameters())
    with pytest.raises(InputError, match="weighs no layers"):
        open_objective(TrainConfig.for_preset("with-features", nodes=("1",), lambdas=(2.0,)), classifier)
