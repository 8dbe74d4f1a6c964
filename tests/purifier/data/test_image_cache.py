from pathlib import Path

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.purifier.data import image_cache
from impure.purifier.data.dataset import Batch, Loader, PairDataset
from impure.purifier.data.image_cache import CachedLoader, ImageCache, check_room, room_for_cache
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.sampler import BatchSplit, EpochSampler
from tests.purifier.conftest import write_collection

CPU = torch.device("cpu")
SIZES = ((16, 16), (24, 16))


def opened(root: Path) -> PairDataset:
    return PairDataset(write_collection(root, sizes=SIZES), cache_bytes=0)


def order(data: PairDataset) -> EpochSampler:
    return EpochSampler(
        data.sizes, data.clean_ids, BatchSplit(batch_size=4, grad_accum=2), variants=2, seed=3
    )


def same(one: Batch, other: Batch) -> bool:
    return one.weight == other.weight and all(map(torch.equal, one[:3], other[:3]))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_same_and_each_image_is_decoded_in_the_first_epoch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """An epoch begun in its middle too, as after a kill."""
    data = opened(tmp_path)
    sampler = order(data)
    plain = {}
    for sampler.epoch, sampler.start in ((0, 3), (1, 0), (2, 0)):
        plain[sampler.epoch] = list(Loader(data, sampler))
    loader = CachedLoader(data, sampler, ImageCache(data, CPU), workers=workers)
    for sampler.epoch, sampler.start in ((0, 3), (1, 0), (2, 0)):
        if sampler.epoch == 2:
            monkeypatch.setattr(PairReader, "_decode", None)
            monkeypatch.setattr(loader, "_decoded", None)
        assert all(map(same, loader, plain[sampler.epoch]))


def test_images_are_counted_as_they_lie(tmp_path: Path) -> None:
    data = opened(tmp_path)
    adversarial, clean = data.image_ids
    assert data.images == 12 + 6 and data.image_bytes == 3 * 9 * (16 * 16 + 24 * 16)
    assert adversarial.tolist()[:12] == list(range(12)) and clean.tolist()[:12] == 2 * list(range(12, 18))
    assert adversarial.tolist()[12:] == clean.tolist()[12:] == list(range(12, 18))
    assert sum(pool.nbytes for pool in ImageCache(data, CPU)._pools) == data.image_bytes


def test_an_image_is_kept_once_whatever_pairs_it_is_in(tmp_path: Path) -> None:
    data = opened(tmp_path)
    cache, sampler = ImageCache(data, CPU), order(data)
    (first, *_) = list(sampler)
    assert not cache.holds(first)
    batch = data.__getitems__(first)
    assert same(cache.keep(first, batch), batch) and cache.holds(first)
    assert cache._kept.sum() == len({*data.image_ids[0][first.indices], *data.image_ids[1][first.indices]})


@pytest.mark.parametrize(("processes", "fits"), [(1, True), (2, False)])
def test_what_would_not_fit_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int, fits: bool
) -> None:
    data = opened(tmp_path)
    monkeypatch.setattr(image_cache, "free_memory", lambda _: int(data.image_bytes / 0.9) + 2)
    if fits:
        return check_room(data, CPU, processes)
    with pytest.raises(
        InputError, match=r"^--cache: 18 decoded images take [^\n]* in 2 processes[^\n]*none$"
    ):
        check_room(data, CPU, processes)
    return None


def test_half_of_a_gpu_is_left_to_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache, "free_memory", lambda _: 100)
    assert (room_for_cache(CPU), room_for_cache(torch.device("cuda"))) == (90, 50)
