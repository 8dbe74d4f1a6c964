from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from impure.manifests.base.errors import InputError
from impure.purifier.data.dataset import Loader
from impure.purifier.data.photos import PhotoDataset, PhotoMicroBatch, PhotoSampler, photo_sides, random_crop
from impure.purifier.data.sampler import BatchSplit

COUNT = 11


def picture(index: int) -> Image.Image:
    """Red grows to the right, green downwards, blue tells the index."""
    width, height = 300 + 10 * index, 200
    red = np.linspace(0, 255, width)[None].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 20 * index)], 2).astype(np.uint8))


def sampler(epoch: int = 0, start: int = 0, **values: int) -> PhotoSampler:
    split = BatchSplit(**{"batch_size": 4, **values})
    found = PhotoSampler(COUNT, split, sides=photo_sides(32), seed=5)
    found.epoch, found.start = epoch, start
    return found


def test_every_photograph_once_and_one_side_in_a_batch() -> None:
    whole = list(sampler())
    assert sorted(index for micro_batch in whole for index in micro_batch.indices) == list(range(COUNT))
    assert [len(micro_batch.indices) for micro_batch in whole] == [3, 4, 4] and len(
        sampler()
    ) == sampler().steps == 3
    divided = [list(sampler(rank=rank, world=2, grad_accum=1)) for rank in range(2)]
    for step, batch in enumerate(whole):
        pieces = [rank[step] for rank in divided]
        assert sum((micro_batch.indices for micro_batch in pieces), []) == batch.indices
        assert sum(micro_batch.weight for micro_batch in pieces) == pytest.approx(1)
        assert {(micro_batch.side, micro_batch.seed) for micro_batch in pieces} == {(batch.side, batch.seed)}
    sides = {micro_batch.side for epoch in range(20) for micro_batch in sampler(epoch)}
    assert sides == set(photo_sides(32)) == {160, 192, 224, 256, 288, 320}


def test_resuming_gives_the_tail_and_epochs_differ() -> None:
    whole = list(sampler(epoch=1, grad_accum=2))
    assert all(list(sampler(epoch=1, start=at, grad_accum=2)) == whole[2 * at :] for at in range(4))
    assert whole != list(sampler(epoch=2, grad_accum=2)) and len(sampler(start=1, grad_accum=2)) == 4


def test_batches_pair_a_crop_with_itself() -> None:
    batch = PhotoDataset(picture, COUNT).__getitems__(PhotoMicroBatch([3, 9], 0.5, 160, (0, 1)))
    assert batch.adversarial is batch.clean and batch.clean.shape == (2, 3, 160, 160)
    assert batch.clean.dtype == torch.uint8 and batch.clean_row.tolist() == [0, 1] and batch.weight == 0.5
    assert batch.clean[:, 2].float().mean((1, 2)).round().tolist() == [60, 180]


def test_a_crop_depends_on_seed_epoch_and_index_alone() -> None:
    data = PhotoDataset(picture, COUNT)

    def crop(indices: list[int], seed: tuple[int, int]) -> torch.Tensor:
        return data.__getitems__(PhotoMicroBatch(indices, 1.0, 160, seed)).clean

    assert torch.equal(crop([3, 9], (0, 1))[1], crop([9], (0, 1))[0])
    assert not torch.equal(crop([9], (0, 1)), crop([9], (0, 2)))
    assert not torch.equal(crop([9], (0, 1)), crop([9], (1, 1)))


def test_workers_change_nothing() -> None:
    data = PhotoDataset(picture, COUNT)
    for one, other in zip(Loader(data, sampler()), Loader(data, sampler(), workers=2), strict=True):
        assert one.weight == other.weight and all(map(torch.equal, one[:3], other[:3]))


@pytest.mark.parametrize("size", [(400, 300), (300, 400), (200, 200)])
def test_windows_are_of_the_wished_area_and_ratio(size: tuple[int, int]) -> None:
    width, height = size
    ramps = np.zeros((height, width, 3), np.uint8)
    ramps[..., 0], ramps[..., 1] = np.linspace(0, 255, width), np.linspace(0, 255, height)[:, None]
    areas, mirrored = [], 0
    for index in range(200):
        crop = np.asarray(random_crop(Image.fromarray(ramps), 64, np.random.default_rng(index)), float)
        across, down = np.ptp(crop[..., 0]) / 255 * width, np.ptp(crop[..., 1]) / 255 * height
        areas.append(across * down / (width * height))
        mirrored += crop[0, 0, 0] > crop[0, -1, 0]
        assert 0.7 < across / down < 1.42
    assert 0.17 < min(areas) < 0.3 and 0.85 < max(areas) <= 1 and 60 < mirrored < 140


@pytest.mark.parametrize("size", [(1000, 10), (10, 1000), (1, 1)])
def test_odd_shapes_give_a_central_window(size: tuple[int, int]) -> None:
    image = np.zeros((*size[::-1], 3), np.uint8)
    image[size[1] // 2, size[0] // 2] = 255
    for index in range(5):
        crop = np.asarray(random_crop(Image.fromarray(image), 160, np.random.default_rng(index)))
        assert crop.shape == (160, 160, 3) and crop.max() > 100


def broken(index: int) -> Image.Image:
    return Image.open(Path(__file__))


def refused(index: int) -> Image.Image:
    raise InputError(f"n01440764/{index}.JPEG: cannot be decoded")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("load", "message"),
    [
        (broken, r"^none of 100 .*photograph \d+: cannot be read \(cannot identify .*test_photos"),
        (refused, r"^none of 100 photographs in a row .*: n0144.*JPEG: [^\n]*$"),
    ],
)
def test_where_none_can_be_read_it_ends_with_the_reason(
    load: Callable[[int], Image.Image], message: str, workers: int
) -> None:
    with pytest.raises(InputError, match=message):
        list(Loader(PhotoDataset(load, COUNT), sampler(), workers=workers))


def holed(index: int) -> Image.Image:
    return refused(index) if index in (3, 4, COUNT - 1) else picture(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_next_stands_in_for_a_photograph_that_cannot_be_read(workers: int) -> None:
    batch = PhotoDataset(holed, COUNT).__getitems__(PhotoMicroBatch([2, 3, COUNT - 1], 0.5, 160, (0, 1)))
    assert batch.clean[:, 2].float().mean((1, 2)).round().tolist() == [
        40,
        100,
        0,
    ]  # 2, 5 for 3, 0 for the last
    assert [reason.split(":")[0] for reason in batch.skipped] == [
        f"n01440764/{index}.JPEG" for index in (3, 4, COUNT - 1)
    ]
    seen = [batch.skipped for batch in Loader(PhotoDataset(holed, COUNT), sampler(), workers=workers)]
    assert sum(map(len, seen)) == 4  # 3 and, for it, 4; 4; the last


def test_impossible_wishes() -> None:
    with pytest.raises(InputError, match="no multiple of the network's 336 pixels"):
        photo_sides(336)
    with pytest.raises(InputError, match="no photograph"):
        PhotoSampler(0, BatchSplit(batch_size=4), sides=[160], seed=0)
    with pytest.raises(InputError, match=r"a batch of 3 out of 11 photographs .*4 ranks x 1"):
        sampler(world=4)
