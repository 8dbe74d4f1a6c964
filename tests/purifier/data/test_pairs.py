import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.collection.stored_pairs import index_pairs
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import Pair, list_pairs, pairs_digest
from impure.purifier.data.shard_index import ShardIndex
from tests.purifier.conftest import clean_image, write_collection, write_shard


def test_columns_are_a_sequence_of_pairs(shards: list[CommittedShard]) -> None:
    pairs = list_pairs(shards)
    alone = [pairs[index] for index in range(len(pairs))]
    assert alone == list(pairs)
    assert [pair.key for pair in pairs[3:8:2]] == [alone[index].key for index in (3, 5, 7)]
    assert pairs[-1] == alone[-1] and alone[7].key == "pgd-image1" and alone[7].row == 1
    assert list(pairs + pairs[:2]) == [*alone, *alone[:2]] and (pairs + pairs).shards == shards
    assert pairs[:6].shards == shards[:1]
    with pytest.raises(IndexError):
        pairs[len(pairs)]


def test_attacked_and_distinct_clean_as_written_plainly(tmp_path: Path) -> None:
    pairs = list_pairs(write_collection(tmp_path, attacks=("clean", "fgsm", "pgd"), sizes=((8, 8), (8, 12))))
    assert list(pairs.attacked()) == [pair for pair in pairs if pair.shard.shard_id.attack != "clean"]
    first: dict[tuple[str, str], Pair] = {}
    for pair in reversed(list(pairs)):
        first[pair.shard.shard_id.target, pair.clean_sha256] = pair
    assert sorted(pair.key for pair in pairs.distinct_clean()) == sorted(pair.key for pair in first.values())
    nothing = list_pairs([])
    assert len(nothing) == len(nothing.attacked()) == len(nothing.distinct_clean()) == 0
    assert len(np.unique(pairs.clean_ids)) == 6 and pairs.sizes[:2].tolist() == [[8, 8], [8, 12]]


def test_digest_is_that_of_the_canonical_json(tmp_path: Path, shards: list[CommittedShard]) -> None:
    pairs = list_pairs(shards)
    plain = [
        [str(pair.shard.shard_id), pair.key, pair.label, pair.clean_sha256, pair.adversarial_sha256]
        for pair in pairs
    ]
    assert pairs_digest(pairs) == pairs_digest(list(pairs)) == digest(plain)
    assert pairs_digest([]) == digest([])
    other = write_collection(tmp_path, count=5)
    assert pairs_digest(list_pairs(other)) != pairs_digest(pairs)


def test_the_same_bytes_in_another_size_are_another_image(tmp_path: Path) -> None:
    samples = []
    for key, size in (("wide", (8, 16)), ("high", (16, 8))):
        samples.append((key, np.zeros((*size, 3), np.uint8), np.ones((*size, 3), np.uint8), 0))
    pairs = list_pairs([write_shard(tmp_path, ShardId("toy", "pgd", "train", 0), samples)])
    assert pairs[0].clean_sha256 == pairs[1].clean_sha256 and len(set(pairs.clean_ids.tolist())) == 2
    reader = PairReader()
    assert [reader.clean(pair).shape for pair in pairs] == [(3, 8, 16), (3, 16, 8)]


def test_two_collections_may_have_shards_of_one_name(tmp_path: Path) -> None:
    image = clean_image(0, (8, 8))
    shards = [
        write_shard(tmp_path / root, ShardId("toy", "pgd", "train", 0), [(root, image, image + change, 0)])
        for change, root in enumerate(("one", "two"), start=1)
    ]
    reader = PairReader(0)
    found = [reader.read(pair) for pair in list_pairs(shards)]
    assert [int((adversarial - clean).max()) for adversarial, clean in found] == [1, 2]


@pytest.mark.parametrize("wrong", ["", "x" * 64, "A" * 64, "é" * 32])
def test_hashes_must_be_hashes(tmp_path: Path, wrong: str) -> None:
    image = clean_image(0, (8, 8))
    shard = write_shard(tmp_path, ShardId("toy", "pgd", "train", 0), [("one", image, image, 0)])
    table = pq.read_table(shard.manifest)
    at = table.schema.get_field_index("adv_px_sha256")
    pq.write_table(table.set_column(at, "adv_px_sha256", pa.array([wrong])), shard.manifest)
    with pytest.raises(InputError, match=r"000000\.parquet: adv_px_sha256 holds something that is no SHA"):
        list_pairs([shard])


def test_a_pair_takes_little_memory(tmp_path: Path) -> None:
    image = clean_image(0, (8, 8))
    samples = [(f"resnet101__apgd-ce-e16__n01440764_{index:08}", image, image, 0) for index in range(500)]
    shard = write_shard(tmp_path, ShardId("toy", "pgd", "train", 0), samples)
    before = pa.total_allocated_bytes()
    pairs, whole = list_pairs([shard]), index_pairs(shard)
    assert (pa.total_allocated_bytes() - before) / len(pairs) < 200
    tracemalloc.start()
    index = ShardIndex(whole)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held < 70 * 500  # four members of 13 bytes each, and what is there once
    assert all(index.sample(row, sample.key, ("clean", "adv")) == sample for row, sample in enumerate(whole))
