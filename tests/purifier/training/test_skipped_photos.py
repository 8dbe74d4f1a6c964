"""One bad photograph does not end a pre-training: it is skipped, named once, and counted."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.manifests.base.logs import stop_log
from impure.purifier.data import photos
from impure.purifier.training import trainer
from impure.purifier.training.data_source import PhotoSource
from impure.purifier.training.skipped_photos import NAMED, SkippedPhotos
from tests.purifier.training.test_trainer import config, small_preset

__all__ = ["small_preset"]  # a fixture


def load(index: int) -> Image.Image:
    if index == 1:
        raise InputError("n01440764/bad.JPEG: cannot be decoded")
    return Image.new("RGB", (16, 16), (90 * index, 0, 0))


def test_one_bad_photograph_is_skipped_named_once_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("LEAST_SIDE", "MOST_SIDE"):
        monkeypatch.setattr(photos, name, 8)
    source = PhotoSource(load, ["a", "b", "c"])
    out = trainer.train(config(stage="pretrain", batch_size=2), source, None, tmp_path, torch.device("cpu"))
    assert (out / "model.safetensors").exists()
    said = capsys.readouterr().err
    assert said.count("skipped n01440764/bad.JPEG: cannot be decoded") == 1  # in two epochs
    assert "a photograph could not be read; the next readable one stood in" in said
    assert (out / "logs" / "rank-0.log").read_text().count("bad.JPEG") == 1
    stop_log()


def test_many_are_counted_rather_than_listed(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = SkippedPhotos()
    skipped.add(f"photograph {index}: broken" for index in range(NAMED + 5))
    skipped.say_how_many()
    said = capsys.readouterr().err
    assert said.count("skipped ") == NAMED and f"{NAMED + 5} photographs could not be read" in said
