import multiprocessing
import tarfile
import tracemalloc
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import Pixels
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import ShardId
from impure.purifier.data import pair_reader as reader
from impure.purifier.data.dataset import Batch, Loader, PairDataset
from impure.purifier.data.pairs import list_pairs
from impure.purifier.data.sampler import BatchSplit, EpochSampler, MicroBatch
from tests.purifier.conftest import clean_image, write_collection, write_shard


def test_attacked_pairs_then_each_clean_image_once(shards: list[CommittedShard]) -> None:
    data = PairDataset(shards)
    assert len(data) == 2 * 6 + 6
    adversarial, clean = data[7]
    assert torch.equal(adversarial, 255 - clean) and clean.dtype == torch.uint8 and clean.shape == (3, 16, 16)
    adversarial, clean = data[12]
    assert torch.equal(adversarial, clean) and torch.equal(data[-6], data[12])
    assert torch.equal(clean, torch.from_numpy(clean_image(0, (16, 16))).permute(2, 0, 1))
    assert len(PairDataset(shards, clean_pairs=False)) == 12


def test_untouched_shards_do_not_double_the_clean_pairs(tmp_path: Path) -> None:
    shards = write_collection(tmp_path, attacks=("clean", "pgd"))
    assert len(PairDataset(shards)) == 6 + 6
    assert len(PairDataset(shards, clean_pairs=False)) == 6


@pytest.mark.parametrize("cache", [0, 1000, 1 << 20])
def test_cache_changes_nothing(shards: list[CommittedShard], cache: int) -> None:
    cached, plain = PairDataset(shards, cache_bytes=cache), PairDataset(shards, cache_bytes=0)
    for _ in range(2):
        assert all(torch.equal(cached[index], plain[index]) for index in range(len(plain)))


def test_a_batch_holds_each_clean_image_once(
    shards: list[CommittedShard], monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []
    read = reader.read_stored
    monkeypatch.setattr(
        reader,
        "read_stored",
        lambda index: decoded.extend(index.members.keys() & {"clean", "adv"}) or read(index),
    )
    data = PairDataset(shards, cache_bytes=0)
    indices = [1, 7, 13, 3, 9, 12]  # two attacks on image 1 and itself, two on image 3, image 0 itself
    batch = data.__getitems__(MicroBatch(indices, 0.25))
    assert batch.adversarial.shape == (6, 3, 16, 16) and batch.clean.shape == (3, 3, 16, 16)
    assert batch.clean_row.tolist() == [0, 0, 0, 1, 1, 2] and batch.clean_row.dtype == torch.int64
    assert batch.weight == 0.25
    assert decoded.count("clean") == 3 and decoded.count("adv") == 4
    for at, index in enumerate(indices):
        assert torch.equal(
            torch.stack([batch.adversarial[at], batch.clean[batch.clean_row[at]]]), data[index]
        )


def test_clean_images_stored_once(tmp_path: Path) -> None:
    """Each attack's shard without clean images, the clean one's without attacked ones."""
    shards = write_collection(tmp_path, attacks=("clean", "pgd"), key="x__image{index}")
    micro_batch = MicroBatch([0, 7, 5, 1, 2], 1.0)  # image 2 last, attacked
    whole = PairDataset(shards).__getitems__(micro_batch)
    for shard, left_out in zip(shards, ("adv.png", "clean.png"), strict=True):
        rewrite(shard.tar, left_out)
    assert same(PairDataset(shards).__getitems__(micro_batch), whole)
    untouched = list_pairs(shards)[2]
    assert torch.equal(*reader.PairReader(0).read(untouched))
    assert torch.equal(reader.PairReader(0).adversarial(untouched), whole.clean[-1])


def rewrite(tar: Path, left_out: str) -> None:
    with tarfile.open(tar) as old:
        members = [(member, old.extractfile(member)) for member in old if not member.name.endswith(left_out)]
        with tarfile.open(tar.with_suffix(".new"), "w", format=tarfile.USTAR_FORMAT) as new:
            for member, content in members:
                new.addfile(member, content)
    tar.with_suffix(".new").rename(tar)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    shards = write_collection(tmp_path, sizes=((16, 16), (24, 16)))
    data = PairDataset(shards)
    sampler = EpochSampler(
        data.sizes, data.clean_ids, BatchSplit(batch_size=4, grad_accum=2), variants=2, seed=3
    )
    loader = Loader(data, sampler, workers=workers)
    for sampler.epoch in (0, 1):
        plain = list(Loader(data, sampler))
        assert len(plain) == len(loader)
        assert all(same(one, other) for one, other in zip(plain, loader, strict=True))


def same(one: Batch, other: Batch) -> bool:
    return one.weight == other.weight and all(map(torch.equal, one[:3], other[:3]))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_worker_says_what_is_wrong_in_one_line(tmp_path: Path, workers: int) -> None:
    shards = write_collection(tmp_path, attacks=("pgd",))
    data = PairDataset(shards)
    shards[0].tar.write_bytes(shards[0].tar.read_bytes()[:9000])
    sampler = EpochSampler(data.sizes, data.clean_ids, BatchSplit(batch_size=4), variants=1, seed=0)
    with pytest.raises(InputError, match=r"^[^\n]*000000\.tar: [^\n]*$"):
        list(Loader(data, sampler, workers=workers))


def test_closed_workers_end_though_they_ignore_signals_and_are_still_held(
    shards: list[CommittedShard],
) -> None:
    data = PairDataset(shards)
    sampler = EpochSampler(data.sizes, data.clean_ids, BatchSplit(batch_size=1), variants=1, seed=0)
    before = set(multiprocessing.active_children())
    with closing(Loader(data, sampler, workers=1)) as loader:
        held = iter(loader)  # as an error's traceback may hold it
        next(held)
        assert len(set(multiprocessing.active_children()) - before) == 1
    assert not set(multiprocessing.active_children()) - before


def test_workers_share_the_index_that_was_made_before(shards: list[CommittedShard]) -> None:
    data = PairDataset(shards, cache_bytes=0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    data.__getitems__(MicroBatch(list(range(12)), 1.0))
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 10_000


def test_a_shard_far_away_is_fetched_when_it_is_first_read(tmp_path: Path) -> None:
    class Away:
        def fetch(self, shard: CommittedShard) -> None:
            fetched.append(shard.shard_id.attack)
            away.rename(shard.tar)

    fetched: list[str] = []
    (shard,) = write_collection(tmp_path, attacks=("pgd",))
    away = shard.tar.rename(tmp_path / "away")
    data = PairDataset([replace(shard, origin=Away())])
    assert len(data) == 12 and not fetched
    assert torch.equal(data[0][0], 255 - data[0][1]) and fetched == ["pgd"]


def _shard_id(root: Path, samples: list[tuple[str, Pixels, Pixels, int]]) -> CommittedShard:
    return write_shard(root, ShardId("toy", "pgd", "train", 0), samples)


def test_manifest_and_shard_must_hold_the_same_keys(tmp_path: Path) -> None:
    image = clean_image(0, (8, 8))
    committed = _shard_id(tmp_path, [("one", image, image, 0), ("two", image, image, 0)])
    shard = committed.tar.read_bytes()
    _shard_id(tmp_path, [("one", image, image, 0)])
    short = committed.tar.rename(tmp_path / "short.tar")
    _shard_id(tmp_path, [("one", image, image, 0), ("two", image, image, 0)])
    short.rename(committed.tar)
    with pytest.raises(InputError, match=r"holds 1 samples, its manifest 2.*'two'"):
        list_pairs([committed])
    committed.tar.write_bytes(shard[:700])
    with pytest.raises(InputError, match=r"000000\.tar"):
        list_pairs([committed])


@pytest.mark.parametrize(("label", "brighter", "word"), [(1, 0, "label or size"), (0, 1, "pixels differ")])
def test_sample_must_be_what_the_manifest_says(tmp_path: Path, label: int, brighter: int, word: str) -> None:
    image = clean_image(0, (8, 8))
    shard = _shard_id(tmp_path, [("one", image, image + brighter, label)])
    manifest = _shard_id(tmp_path / "other", [("one", image, image, 0)]).manifest
    shard.manifest.write_bytes(manifest.read_bytes())
    with pytest.raises(InputError, match=f"000000.tar: sample 'one': {word}"):
        PairDataset([shard])[0]


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sample"):
        PairDataset([_shard_id(tmp_path, [])])
