"""Patches, their partition into subsets, and position tables: pure functions."""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut images (B, C, H, W) into patches (B, N, patch * patch * C), row by row."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Put patches (B, N, patch * patch * C) back together as images (B, C, height, width)."""
    batch, _, values = patches.shape
    cut = patches.reshape(batch, height // patch, width // patch, patch, patch, values // patch**2)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, -1, height, width)


def random_partition(batch: int, patches: int, generator: Generator, subsets: int = 4) -> Tensor:
    """Partition each sample's patches at random into equal subsets (paper, section 3.2.1).

    Returns:
        Patch indices (batch, subsets, patches / subsets), on the generator's device.
    """
    keys = torch.rand(batch, patches, generator=generator, device=generator.device)
    return keys.argsort(dim=1, stable=True).view(batch, subsets, -1)


def uniform_partition(batch: int, rows: int, columns: int, device: torch.device, subsets: int = 4) -> Tensor:
    """Partition a grid of patches by the repeated tile [[1, 2], [3, 4]] (paper, section 5.3).

    Two or three subsets take turns in every row and column, as in the authors' program.

    Returns:
        Patch indices (batch, subsets, rows * columns / subsets).
    """
    row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
    if subsets == 4:
        subset = 2 * (row % 2)[:, None] + (column % 2)[None, :]
    else:
        subset = (column[None, :] - row[:, None]) % subsets
    order = subset.flatten().argsort(stable=True).view(1, subsets, -1)
    return order.expand(batch, -1, -1)


def take(values: Tensor, partition: Tensor) -> Tensor:
    """Gather per-patch values (B, N, D) into subsets (B, S, L, D)."""
    index = partition.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, index).view(*partition.shape, -1)


def put_back(subsets: Tensor, partition: Tensor) -> Tensor:
    """Undo `take`: subsets (B, S, L, D) to per-patch values (B, N, D)."""
    values = subsets.flatten(1, 2)
    index = partition.flatten(1)[..., None].expand_as(values)
    return torch.zeros_like(values).scatter(1, index, values)


def position_table(rows: int, columns: int, dim: int, period: float = 10000.0) -> Tensor:
    """Fixed 2-D sine-cosine positions (rows, columns, dim): half of `dim` for each axis.

    The first half is the column's, the second the row's, as in MAE and in the paper's release: their weights
    fit as they are. Each half holds sin(p / period^(4k/dim)), then the cosines, of its coordinate p
    ("Attention Is All You Need", section 3.5, once per axis as in MoCo v3).
    """
    rate = period ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angle_y = torch.arange(rows, dtype=torch.float64)[:, None] * rate
    angle_x = torch.arange(columns, dtype=torch.float64)[:, None] * rate
    half_y = torch.cat([angle_y.sin(), angle_y.cos()], dim=1)[:, None].expand(-1, columns, -1)
    half_x = torch.cat([angle_x.sin(), angle_x.cos()], dim=1)[None].expand(rows, -1, -1)
    return torch.cat([half_x, half_y], dim=2).float()


def window_positions(table: Tensor, partition: Tensor, corner: Tensor, columns: int) -> Tensor:
    """Look the positions of the subsets' patches up in a window of a position table.

    Args:
        table: Positions (rows, columns, D), at least as large as the image's grid.
        partition: Patch indices (B, S, L) in an image of `columns` patches a row.
        corner: The window's upper left corner per sample (B, 2): row and column in the table.
        columns: Patches in a row of the image.

    Returns:
        Positions (B, S, L, D).
    """
    row = partition // columns + corner[:, 0, None, None]
    column = partition % columns + corner[:, 1, None, None]
    positions: Tensor = table.flatten(0, 1)[row * table.shape[1] + column]
    return positions


def reflect_pad(images: Tensor, multiple: int) -> Tensor:
    """Reflect images (B, C, H, W) to the right and below until both sides are multiples of `multiple`.

    Reflects over and over, so that sides shorter than the padding work as well.
    """
    for dim in (2, 3):
        side = images.shape[dim]
        if side % multiple:
            index = torch.arange(side + -side % multiple, device=images.device) % max(2 * side - 2, 1)
            images = images.index_select(dim, torch.minimum(index, (2 * side - 2 - index).abs()))
    return images


def zero_pad(images: Tensor, multiple: int) -> Tensor:
    """Pad images (B, C, H, W) with zeros to the right and below until both sides are multiples."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))
