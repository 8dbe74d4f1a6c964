"""Runs that begin with other weights, and those of another architecture."""

import json
from pathlib import Path

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.riae import riae_config as presets
from impure.purifier.riae.riae_config import RIAEConfig
from tests.purifier.conftest import SMALL
from tests.purifier.training.test_trainer import (  # noqa: F401 - a fixture
    config,
    same,
    small_preset,
    train,
)


def test_init_begins_with_other_weights_and_is_recorded(tmp_path: Path, shards: list[CommittedShard]) -> None:
    first = train(config(epochs=1, recipe="pixel"), shards, None, tmp_path / "first")
    second = train(config(epochs=1, learning_rate=0.0), shards, None, tmp_path / "second", init=first)
    assert same(first, second)
    written = json.loads((second / "config.json").read_text())["init"]
    assert written["origin"] == "impure" and len(written["sha256"]) == 64
    with pytest.raises(InputError, match=r"init\."):
        train(config(epochs=1, learning_rate=0.0), shards, None, second)


def test_init_of_another_architecture_does_no_harm(
    tmp_path: Path, shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(config(epochs=1), shards, None, tmp_path / "first")
    monkeypatch.setitem(presets.PRESETS, "tiny", RIAEConfig(**{**SMALL, "encoder_dim": 32}))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a checkpoint of another architecture"):
        train(config(), shards, None, tmp_path / "second", init=first)
    assert not (tmp_path / "second").exists()


def test_checkpoint_of_another_architecture_is_refused(tmp_path: Path, shards: list[CommittedShard]) -> None:
    out = train(config(epochs=1), shards, None, tmp_path / "run")
    state = torch.load(out / "state.pt", weights_only=True)
    state["train_step"]["model"]["patch_embed.proj.weight"] = torch.zeros(3, 3)
    torch.save(state, out / "state.pt")
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"not of this architecture .*patch_embed\.proj\.weight"):
        train(config(epochs=1), shards, None, out)
    assert (out / "model.safetensors").read_bytes() == before
