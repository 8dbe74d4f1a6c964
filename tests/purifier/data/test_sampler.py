from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pytest

from impure.manifests.base.errors import InputError
from impure.purifier.data.sampler import BatchSplit, EpochSampler, MicroBatch

SIZES = [(16, 16), (8, 8), (16, 16), (8, 12), (16, 16)] * 9  # 27, 9 and 9 pairs
CLEAN_IDS = [index // 5 for index in range(45)]


def micro_batches(
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
    assert len(found) == len(sampler) == (sampler.steps - start) * split.get("grad_accum", 1)
    return found


@pytest.mark.parametrize("variants", [1, 2, 3, 20])
@pytest.mark.parametrize("batch_size", [1, 4, 8, 100])
def test_every_pair_once_in_batches_of_one_size_and_nearly_equal_length(
    variants: int, batch_size: int
) -> None:
    found = micro_batches(variants=variants, batch_size=batch_size)
    assert sorted(index for micro_batch in found for index in micro_batch.indices) == list(range(45))
    assert all(micro_batch.weight == 1 for micro_batch in found)
    lengths: dict[tuple[int, int], set[int]] = {}
    for micro_batch in found:
        (size,) = {SIZES[index] for index in micro_batch.indices}
        lengths.setdefault(size, set()).add(len(micro_batch.indices))
    assert all(max(each) <= batch_size and max(each) - min(each) <= 1 for each in lengths.values())
    assert len(found) == sum(-(-count // batch_size) for count in Counter(SIZES).values())


@pytest.mark.parametrize(("ranks", "grad_accum"), [(1, 1), (2, 1), (1, 3), (2, 2), (4, 1), (3, 2)])
def test_ranks_and_passes_divide_the_batch(ranks: int, grad_accum: int) -> None:
    whole = micro_batches(batch_size=12)
    shares = [
        micro_batches(batch_size=12, rank=rank, world=ranks, grad_accum=grad_accum) for rank in range(ranks)
    ]
    assert len({len(each) for each in shares}) == 1
    for step, batch in enumerate(whole):
        own = [each[step * grad_accum : (step + 1) * grad_accum] for each in shares]
        pieces = [micro_batch for rank in own for micro_batch in rank]
        assert [index for micro_batch in pieces for index in micro_batch.indices] == batch.indices
        assert sum(micro_batch.weight for micro_batch in pieces) == pytest.approx(1)
        assert all(
            micro_batch.weight == len(micro_batch.indices) / len(batch.indices) for micro_batch in pieces
        )
        lengths = {len(micro_batch.indices) for micro_batch in pieces}
        assert min(lengths) >= 1 and max(lengths) - min(lengths) <= 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert micro_batches(epoch=1) == micro_batches(epoch=1) != micro_batches(epoch=2)
    assert micro_batches(epoch=1) != micro_batches(epoch=1, seed=1)


@pytest.mark.parametrize("grad_accum", [1, 2])
def test_resuming_gives_the_tail(grad_accum: int) -> None:
    whole = micro_batches(epoch=1, grad_accum=grad_accum)
    for start in range(len(whole) // grad_accum + 1):
        assert micro_batches(epoch=1, start=start, grad_accum=grad_accum) == whole[start * grad_accum :]


@pytest.mark.parametrize("variants", [1, 2, 3, 4, 7])
def test_variants_of_an_image_stand_together(variants: int) -> None:
    clean_ids = [index % 30 for index in range(270)]  # nine variants of each
    orders = [
        micro_batches([(8, 8)] * 270, clean_ids, epoch=epoch, batch_size=270, variants=variants)[0].indices
        for epoch in range(2)
    ]
    for order in orders:
        runs = [len(list(run)) for _, run in groupby(clean_ids[index] for index in order)]
        assert len(runs) <= 30 * -(-9 // variants)
        assert variants == 1 or len(runs) > 0.6 * 30 * -(-9 // variants)  # neighbours may be of one image
    first, second = ({frozenset(order[at : at + 9]) for at in range(0, 270, 9)} for order in orders)
    assert first != second


def test_sizes_come_in_random_order() -> None:
    sizes = [SIZES[micro_batch.indices[0]] for micro_batch in micro_batches(batch_size=1)]
    assert len(list(groupby(sizes))) > 10


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"batch_size": 3, "world": 2, "grad_accum": 2},
            r"batch size 3 .*more ranks than images, 2 ranks x 2",
        ),
        ({"world": 5}, r"a batch of 4 out of 9 pairs of 8x8 pixels \(batch size 8\).*5 ranks x 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"variants": 0}, "variants is 0"),
        ({"world": 2, "rank": 2}, "rank is 2; of 2 ranks it must be 0 to 1"),
        ({"grad_accum": 0}, "grad_accum is 0"),
    ],
)
def test_impossible_values(values: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        micro_batches(**values)


def test_the_papers_scale() -> None:
    clean_ids = np.arange(540_000) // 9
    sizes = np.where((clean_ids % 3 == 0)[:, None], 224, 299) * np.ones(2, int)
    sampler = EpochSampler(sizes, clean_ids, BatchSplit(batch_size=64, rank=3, world=8), variants=9, seed=0)
    assert sum(len(micro_batch.indices) for micro_batch in sampler) == pytest.approx(540_000 / 8, rel=0.1)
