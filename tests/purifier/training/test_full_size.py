"""The paper's network at the paper's sizes, with its perceptual loss: two updates, and what they leave."""

import csv
from pathlib import Path

import pytest
import torch
from torchvision.models import vgg19_bn

from impure.purifier.riae.model import RIAE
from impure.purifier.training.data_source import PairSource
from impure.purifier.training.runtime_options import RuntimeOptions
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.trainer import train
from tests.purifier.conftest import write_collection


@pytest.mark.slow
def test_two_updates_of_the_full_network(tmp_path: Path) -> None:
    shards = write_collection(tmp_path / "data", attacks=("fgsm",), count=4, sizes=((224, 224),))
    config = TrainConfig(epochs=1, warmup_epochs=0, batch_size=2, clean_pairs=False)
    torch.manual_seed(config.seed)
    before = RIAE(config.riae()).state_dict()
    out = train(
        config, PairSource(shards, clean_pairs=False), vgg19_bn(weights=None), tmp_path / "run",
        torch.device("cpu"), runtime=RuntimeOptions(log_steps=1),
    )  # fmt: skip
    with (out / "log.csv").open(newline="") as file:
        losses = [(float(row["pixel"]), float(row["perceptual"])) for row in csv.DictReader(file)]
    assert len(losses) == 2 and all(pixel > 0 and perceptual > 0 for pixel, perceptual in losses)
    after = RIAE.from_pretrained(out).state_dict()
    assert sum(each.numel() for each in after.values()) == 115_789_402
    assert [name for name in before if torch.equal(before[name], after[name])] == []
