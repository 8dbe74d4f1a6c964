from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.data.sampler import BatchSplit, EpochSampler, MicroBatch

SIZES = [(16, 16), (8, 8), (16, 16), (8, 12), (16, 16)] * 9  # 27, 9 and 9 pairs
CLEAN_IDS = [index // 5 for index in range(45)]


def parts(
    sizes: Sequence[tuple[int, int]] = SIZES,
    clean_ids: Sequence[int] = CLEAN_IDS,
    *,
    epoch: int = 0,
    start: int = 0,
    batch_size: int = 8,
    variants: int = 3,
    seed: int = 0,
    **split: int,
) -> list[MicroBatch]:
    sampler = EpochSampler(
        sizes, clean_ids, BatchSplit(batch_size=batch_size, **split), variants=variants, seed=seed
    )
    sampler.epoch, sampler.start = epoch, start
    found = list(sampler)
    assert len(found) == len(sampler) == (sampler.steps - start) * split.get("accumulate", 1)
    return found


@pytest.mark.parametrize("variants", [1, 2, 3, 20])
@pytest.mark.parametrize("batch_size", [1, 4, 8, 100])
def test_every_pair_once_in_batches_of_one_size_and_nearly_equal_length(
    variants: int, batch_size: int
) -> None:
    found = parts(variants=variants, batch_size=batch_size)
    assert sorted(index for part in found for index in part.indices) == list(range(45))
    assert all(part.share == 1 for part in found)
    lengths: dict[tuple[int, int], set[int]] = {}
    for part in found:
        (size,) = {SIZES[index] for index in part.indices}
        lengths.setdefault(size, set()).add(len(part.indices))
    assert all(max(each) <= batch_size and max(each) - min(each) <= 1 for each in lengths.values())
    assert len(found) == sum(-(-count // batch_size) for count in Counter(SIZES).values())


@pytest.mark.parametrize(("ranks", "accumulate"), [(1, 1), (2, 1), (1, 3), (2, 2), (4, 1), (3, 2)])
def test_ranks_and_passes_divide_the_batch(ranks: int, accumulate: int) -> None:
    whole = parts(batch_size=12)
    shares = [parts(batch_size=12, rank=rank, world=ranks, accumulate=accumulate) for rank in range(ranks)]
    assert len({len(each) for each in shares}) == 1
    for step, batch in enumerate(whole):
        own = [each[step * accumulate : (step + 1) * accumulate] for each in shares]
        pieces = [part for rank in own for part in rank]
        assert [index for part in pieces for index in part.indices] == batch.indices
        assert sum(part.share for part in pieces) == pytest.approx(1)
        assert all(part.share == len(part.indices) / len(batch.indices) for part in pieces)
        lengths = {len(part.indices) for part in pieces}
        assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert parts(epoch=1) == parts(epoch=1) != parts(epoch=2)
    assert parts(epoch=1) != parts(epoch=1, seed=1)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_resuming_gives_the_tail(accumulate: int) -> None:
    whole = parts(epoch=1, accumulate=accumulate)
    for start in range(len(whole) // accumulate + 1):
        assert parts(epoch=1, start=start, accumulate=accumulate) == whole[start * accumulate :]


@pytest.mark.parametrize("variants", [1, 2, 3, 4, 7])
def test_variants_of_an_image_stand_together(variants: int) -> None:
    clean_ids = [index % 30 for index in range(270)]  # nine variants of each
    orders = [
        parts([(8, 8)] * 270, clean_ids, epoch=epoch, batch_size=270, variants=variants)[0].indices
        for epoch in range(2)
    ]
    for order in orders:
        runs = [len(list(run)) for _, run in groupby(clean_ids[index] for index in order)]
        assert len(runs) <= 30 * -(-9 // variants)
        assert variants == 1 or len(runs) > 0.6 * 30 * -(-9 // variants)  # neighbours may be of one image
    first, second = ({frozenset(order[at : at + 9]) for at in range(0, 270, 9)} for order in orders)
    assert first != second


def test_sizes_come_in_random_order() -> None:
    sizes = [SIZES[part.indices[0]] for part in parts(batch_size=1)]
    assert len(list(groupby(sizes))) > 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"batch_size": 3, "world": 2, "accumulate": 2},
            r"batch size 3 .*more ranks than images, 2 ranks x 2",
        ),
        ({"world": 5}, r"a batch of 4 out of 9 pairs of 8x8 pixels \(batch size 8\).*5 ranks x 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"variants": 0}, "variants is 0"),
        ({"world": 2, "rank": 2}, "rank is 2; of 2 ranks it must be 0 to 1"),
        ({"accumulate": 0}, "accumulate is 0"),
    ],
)
def test_impossible_values(values: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parts(**values)


def test_the_papers_scale() -> None:
    clean_ids = np.arange(540_000) // 9
    sizes = np.where((clean_ids % 3 == 0)[:, None], 224, 299) * np.ones(2, int)
    sampler = EpochSampler(sizes, clean_ids, BatchSplit(batch_size=64, rank=3, world=8), variants=9, seed=0)
    assert sum(len(part.indices) for part in sampler) == pytest.approx(540_000 / 8, rel=0.1)
