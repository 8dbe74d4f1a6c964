import numpy as np
import pytest
import torch

from impure.purifier.riae import patches


def test_patchify_cuts_row_by_row_and_back() -> None:
    images = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    cut = patches.patchify(images, 4)
    assert cut.shape == (2, 6, 48)
    assert torch.equal(cut[1, 4].view(4, 4, 3), images[1, :, 4:8, 4:8].permute(1, 2, 0))
    assert torch.equal(patches.unpatchify(cut, 4, 8, 12), images)


def test_uniform_partition_is_the_tile() -> None:
    partition = patches.uniform_partition(2, 4, 6, torch.device("cpu"))
    subset = torch.empty(24, dtype=torch.long)
    for index, members in enumerate(partition[1]):
        subset[members] = index
    assert torch.equal(subset.view(4, 6), torch.tensor([[0, 1], [2, 3]]).repeat(2, 3))


@pytest.mark.parametrize(("subsets", "tile"), [(2, [[0, 1], [1, 0]]), (3, [[0, 1, 2], [2, 0, 1], [1, 2, 0]])])
def test_two_or_three_subsets_take_turns_in_rows_and_columns(subsets: int, tile: list[list[int]]) -> None:
    partition = patches.uniform_partition(1, 6, 6, torch.device("cpu"), subsets)
    assert partition.shape == (1, subsets, 36 // subsets)
    subset = torch.empty(36, dtype=torch.long)
    for index, members in enumerate(partition[0]):
        subset[members] = index
    assert torch.equal(subset.view(6, 6), torch.tensor(tile).repeat(6 // subsets, 6 // subsets))


def test_zeros_are_padded_to_the_right_and_below() -> None:
    padded = patches.zero_pad(torch.ones(1, 3, 5, 8), 4)
    assert padded.shape == (1, 3, 8, 8) and padded[..., :5, :].all() and not padded[..., 5:, :].any()


def test_random_partition_is_a_permutation_per_sample_and_seeded() -> None:
    first, second = (patches.random_partition(5, 16, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second) and first.shape == (5, 4, 4)
    assert torch.equal(first.flatten(1).sort(1).values, torch.arange(16).expand(5, -1))
    assert not torch.equal(first[0], first[1])


def test_put_back_undoes_take() -> None:
    values = torch.randn(3, 16, 7)
    partition = patches.random_partition(3, 16, torch.Generator().manual_seed(0))
    subsets = patches.take(values, partition)
    assert torch.equal(subsets[2, 1, 0], values[2, partition[2, 1, 0]])
    assert torch.equal(patches.put_back(subsets, partition), values)


def test_position_table_formula() -> None:
    table = patches.position_table(5, 6, 8)
    rate = np.array([1.0, 10000.0**-0.5])
    wanted = np.concatenate([np.sin(2 * rate), np.cos(2 * rate), np.sin(3 * rate), np.cos(3 * rate)])
    np.testing.assert_allclose(table[3, 2].numpy(), wanted, atol=1e-6)


def test_window_moves_over_the_table() -> None:
    table = patches.position_table(6, 6, 8)
    partition = patches.uniform_partition(2, 2, 4, torch.device("cpu"))
    corner = torch.tensor([[0, 0], [3, 1]])
    positions = patches.put_back(patches.window_positions(table, partition, corner, 4), partition)
    assert torch.equal(positions[0], table[:2, :4].flatten(0, 1))
    assert torch.equal(positions[1], table[3:5, 1:5].flatten(0, 1))


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 9])
def test_reflect_pad_equals_numpy(side: int) -> None:
    images = torch.rand(1, 1, side, 8)
    padded = patches.reflect_pad(images, 8)
    wanted = np.pad(images[0, 0].numpy(), ((0, -side % 8), (0, 0)), mode="reflect" if side > 1 else "edge")
    np.testing.assert_array_equal(padded[0, 0].numpy(), wanted)
