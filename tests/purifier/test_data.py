from pathlib import Path

import pytest
import torch

from impure.manifests.collection import Committed, Unit
from impure.manifests.errors import InputError
from impure.manifests.pixels import Pixels
from impure.purifier.data import (
    EpochSampler,
    PairDataset,
    crop_side,
    list_pairs,
    paired_crops,
    pairs_digest,
)

from .conftest import clean_image, write_collection, write_unit


def test_attacked_pairs_then_each_clean_image_once(units: list[Committed]) -> None:
    data = PairDataset(units)
    assert len(data) == 2 * 6 + 6
    adversarial, clean = data[7]
    assert torch.equal(adversarial, 255 - clean) and clean.dtype == torch.uint8 and clean.shape == (3, 16, 16)
    adversarial, clean = data[12]
    assert torch.equal(adversarial, clean)
    assert torch.equal(clean, torch.from_numpy(clean_image(0, (16, 16))).permute(2, 0, 1))
    assert len(PairDataset(units, clean_pairs=False)) == 12


def test_untouched_units_do_not_double_the_clean_pairs(tmp_path: Path) -> None:
    units = write_collection(tmp_path, attacks=("clean", "pgd"))
    assert len(PairDataset(units)) == 6 + 6
    assert len(PairDataset(units, clean_pairs=False)) == 6


@pytest.mark.parametrize("cache", [0, 1000, 1 << 20])
def test_cache_changes_nothing(units: list[Committed], cache: int) -> None:
    cached, plain = PairDataset(units, cache_bytes=cache), PairDataset(units, cache_bytes=0)
    for _ in range(2):
        assert all(torch.equal(cached[index], plain[index]) for index in range(len(plain)))


def test_digest_depends_on_the_pixels(tmp_path: Path, units: list[Committed]) -> None:
    other = write_collection(tmp_path, count=5)
    assert pairs_digest(list_pairs(units)) != pairs_digest(list_pairs(other))


def _unit(root: Path, samples: list[tuple[str, Pixels, Pixels, int]]) -> Committed:
    return write_unit(root, Unit("toy", "pgd", "train", 0), samples)


def test_manifest_and_shard_must_hold_the_same_keys(tmp_path: Path) -> None:
    image = clean_image(0, (8, 8))
    unit = _unit(tmp_path, [("one", image, image, 0), ("two", image, image, 0)])
    shard = unit.tar.read_bytes()
    _unit(tmp_path, [("one", image, image, 0)])
    with pytest.raises(InputError, match=r"holds 1 samples, its manifest 2.*'two'"):
        unit.tar.rename(tmp_path / "short.tar")
        _unit(tmp_path, [("one", image, image, 0), ("two", image, image, 0)])
        (tmp_path / "short.tar").rename(unit.tar)
        list_pairs([unit])
    unit.tar.write_bytes(shard[:700])
    with pytest.raises(InputError, match=r"000000\.tar"):
        list_pairs([unit])


@pytest.mark.parametrize(("label", "brighter", "word"), [(1, 0, "label or size"), (0, 1, "pixels differ")])
def test_sample_must_be_what_the_manifest_says(tmp_path: Path, label: int, brighter: int, word: str) -> None:
    image = clean_image(0, (8, 8))
    unit = _unit(tmp_path, [("one", image, image + brighter, label)])
    manifest = _unit(tmp_path / "other", [("one", image, image, 0)]).manifest
    unit.manifest.write_bytes(manifest.read_bytes())
    with pytest.raises(InputError, match=f"000000.tar: sample 'one': {word}"):
        PairDataset([unit])[0]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sample"):
        PairDataset([_unit(tmp_path, [])])


def test_batches_hold_one_size_and_every_pair_once() -> None:
    sizes = [(16, 16), (8, 8), (16, 16), (8, 8), (16, 16)] * 3
    sampler = EpochSampler(sizes, 4, seed=0)
    batches = list(sampler)
    assert len(batches) == len(sampler) == sampler.steps == 3 + 2
    assert sorted(sum(batches, [])) == list(range(15))
    assert all(len({sizes[index] for index in batch}) == 1 for batch in batches)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int, start: int = 0) -> list[list[int]]:
        sampler = EpochSampler([(8, 8)] * 20, 4, seed)
        sampler.epoch, sampler.start = epoch, start
        return list(sampler)

    assert order(0, 1) == order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)
    assert order(0, 1, start=3) == order(0, 1)[3:]


def test_crop_rule() -> None:
    assert [crop_side(side, None, 32) for side in (224, 299, 64, 100)] == [192, 256, 64, 96]
    assert crop_side(224, 100, 16) == 96 and crop_side(64, 100, 16) == 64
    with pytest.raises(InputError, match="crop of 24 pixels"):
        crop_side(24, None, 32)


def test_crops_are_paired() -> None:
    base = torch.arange(9 * 11).view(1, 1, 9, 11) + 1000 * torch.arange(20).view(20, 1, 1, 1)
    pairs = torch.stack([base, base + 7], 1).expand(-1, -1, 3, -1, -1)
    crops = paired_crops(pairs, 4, 5, torch.Generator().manual_seed(0))
    assert crops.shape == (20, 2, 3, 4, 5)
    assert torch.equal(crops[:, 1], crops[:, 0] + 7)
    corners = crops[:, 0, 0, 0, 0] - 1000 * torch.arange(20)
    assert len(corners.unique()) > 5
    row, column = corners[3] // 11, corners[3] % 11
    assert torch.equal(crops[3, 0], pairs[3, 0, :, row : row + 4, column : column + 5])
