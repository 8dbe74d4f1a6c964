"""Large images are purified in tiles that cover them and leave no seam."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impure.purifier.defences.files.tiles import _starts, needs_tiles, purify_in_tiles, tile_side
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import PRESETS

Make = Callable[[str], RIAE]


@pytest.mark.parametrize("length", [1, 448, 449, 840, 841, 2400])
def test_tiles_cover_each_axis_with_enough_overlap(length: int) -> None:
    starts = _starts(length, 448)
    assert starts[0] == 0 and starts[-1] == max(length - 448, 0)
    assert all(0 < after - before <= 448 - 56 for before, after in zip(starts, starts[1:], strict=False))
    assert len(starts) == max(1, -(-(length - 56) // 392))  # as few as can be


def test_a_tile_is_what_the_positions_reach(riae: Make) -> None:
    assert {name: tile_side(config) for name, config in PRESETS.items()} == {
        "base": 448,
        "small": 448,
        "tiny": 80,
    }
    assert tile_side(riae("both").config) == 24
    assert needs_tiles(riae("both").config, 8, 25) and not needs_tiles(riae("both").config, 24, 24)


@torch.no_grad()
def test_small_images_go_through_as_they_are(riae: Make) -> None:
    images = torch.rand(2, 3, 24, 13)
    assert torch.equal(purify_in_tiles(riae("both"), images, seed=4), riae("both").purify(images, seed=4))


@torch.no_grad()
def test_no_seam_where_every_tile_agrees(riae: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = riae("both"), []

    def purify(images: Tensor, **_: object) -> Tensor:
        seen.append(tuple(images.shape[2:]))
        return 1 - images

    monkeypatch.setattr(model, "purify", purify)
    images = torch.rand(1, 3, 70, 20)
    assert torch.allclose(purify_in_tiles(model, images), 1 - images, atol=1e-6)
    assert set(seen) == {(24, 20)} and len(seen) == 4


@torch.no_grad()
def test_the_seed_decides(riae: Make) -> None:
    images = torch.rand(1, 3, 30, 8)
    one, again, other = (purify_in_tiles(riae("both"), images, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == images.shape and one.min() >= 0 and one.max() <= 1
