"""Training from decoded images that were kept."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.purifier.data import image_cache
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.training import setup
from impure.purifier.training.data_source import PairSource, PhotoSource, open_loader
from impure.purifier.training.distributed import Ranks
from impure.purifier.training.runtime_options import RuntimeOptions
from impure.purifier.training.setup import default_cache, default_validate_epochs
from tests.purifier.conftest import write_collection
from tests.purifier.training.test_trainer import config, same, small_preset, train

__all__ = ["small_preset"]  # a fixture

CPU = torch.device("cpu")


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call decodes."""
    decode, decoded = PairReader._decode, list[int]()

    def counting(self: PairReader, pair: Any, images: Any) -> Any:
        decoded.append(len(images))
        return decode(self, pair, images)

    monkeypatch.setattr(PairReader, "_decode", counting)
    return decoded


def test_cached_pairs_give_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = write_collection(tmp_path / "data", count=4, sizes=((16, 16), (24, 16)))
    decoded = counted(monkeypatch)
    counts = {}
    for cache in ("none", "ram", "device"):
        decoded.clear()
        train(config(batch_size=6, crop=8), shards, None, tmp_path / cache, cache=cache)
        counts[cache] = sum(decoded)
        assert same(tmp_path / "none", tmp_path / cache)
    assert counts["ram"] == counts["device"] < 0.6 * counts["none"]


def test_a_cache_that_does_not_fit_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = write_collection(tmp_path / "data")
    monkeypatch.setattr(image_cache, "free_memory", lambda _: 1000)
    with pytest.raises(InputError, match=r"^--cache: 18 decoded images take [^\n]*$"):
        train(config(), shards, None, tmp_path / "run", cache="ram")
    assert not (tmp_path / "run").exists()


def test_photographs_are_not_cached() -> None:
    photographs = PhotoSource(lambda index: None, ["a", "b"])  # type: ignore[arg-type, return-value]
    order = photographs.order(config(batch_size=1), Ranks(), 8)
    with pytest.raises(InputError, match="cropped and resized anew"):
        open_loader(photographs, order, CPU, RuntimeOptions(cache="ram"))
    assert default_cache(photographs) == "none"


@pytest.mark.parametrize(("free", "kind"), [(math.inf, "ram"), (1000, "none")])
def test_few_images_are_kept_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, kind: str
) -> None:

    source = PairSource(write_collection(tmp_path))
    monkeypatch.setattr(setup, "room_for_cache", lambda _: free)
    assert default_cache(source) == kind
    monkeypatch.setattr(setup, "FEW_BYTES", source.dataset.image_bytes - 1)
    assert default_cache(source) == "none"


@pytest.mark.parametrize(("share", "epochs"), [(0.0, 1), (0.5, 1), (0.51, 2), (1.0, 2), (4.0, 8)])
def test_validation_waits_until_twice_its_images_are_learnt_from(
    tmp_path: Path, share: float, epochs: int
) -> None:
    source = PairSource(write_collection(tmp_path / "data", count=50))
    assert default_validate_epochs(source, math.floor(share * source.images)) == epochs
