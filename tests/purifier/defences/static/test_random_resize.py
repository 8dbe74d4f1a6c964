import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defence_registry import build_defence
from impure.purifier.defences.static.random_resize import RandomResize

SENTINEL = 0.25  # a constant image of this shade shows where it was put


def boxes(defended: Tensor) -> list[tuple[int, int, int, int]]:
    """Top, left, height and width of the shade in each image."""
    corners = []
    for image in defended[:, 0]:
        rows, columns = ((image - SENTINEL).abs() < 1e-5).nonzero().unbind(1)
        height, width = (int(places.max() - places.min()) + 1 for places in (rows, columns))
        assert len(rows) == height * width
        corners.append((int(rows.min()), int(columns.min()), height, width))
    return corners


def test_sizes_are_310_to_330_and_every_place_is_possible() -> None:
    defended = RandomResize()(torch.full((2000, 3, 299, 1), SENTINEL))
    assert defended.shape == (2000, 3, 331, 1)
    drawn = boxes(defended)
    counts = np.bincount([height - 310 for _, _, height, _ in drawn])
    assert len(counts) == 21
    expected = 2000 / 21
    assert ((counts - expected) ** 2 / expected).sum() < 45.3  # χ² with 20 degrees of freedom, p = 0.001
    for side in (310, 320, 330):
        tops = {top for top, _, height, _ in drawn if height == side}
        assert min(tops) == 0 and max(tops) == 331 - side


def test_squares_stay_square_and_are_placed_independently_along_both_sides() -> None:
    defence, shade = RandomResize(), torch.full((20, 3, 299, 299), SENTINEL)
    drawn = [box for _ in range(4) for box in boxes(defence(shade))]
    assert all(height == width for _, _, height, width in drawn)
    assert any(top < 3 and left > 8 for top, left, _, _ in drawn)
    assert any(top > 8 and left < 3 for top, left, _, _ in drawn)


def test_other_sides_in_proportion_and_each_image_by_itself() -> None:
    defended = RandomResize()(torch.full((40, 3, 224, 112), SENTINEL))
    assert defended.shape == (40, 3, 248, 124)
    sizes = {(height, width) for _, _, height, width in boxes(defended)}
    assert len(sizes) > 5
    for height, width in sizes:
        assert 232 <= height <= 247 and 116 <= width <= 124 and abs(height - 2 * width) <= 1


@pytest.mark.parametrize("name", ["random", "random-impure"])
def test_equals_an_independent_resize(name: str) -> None:
    """Nearest: the pixel at ⌊i · old / new⌋. Bilinear: Pillow's, which only smooths when it shrinks."""
    defence, images = build_defence(name), torch.rand(1, 3, 299, 299)
    defence.reseed(3)
    ((top, left, side, _),) = boxes(defence(torch.full_like(images, SENTINEL)))
    defence.reseed(3)
    defended = defence(images)
    inside = defended[0, :, top : top + side, left : left + side]
    if name == "random":
        place = torch.arange(side) * 299 // side
        wanted = images[0][:, place][:, :, place]
        border = torch.full((3,), 0.5)
        assert torch.equal(inside, wanted)
    else:
        planes = [Image.fromarray(plane).resize((side, side), Image.Resampling.BILINEAR) for plane in
                  images[0].numpy()]  # fmt: skip
        wanted = torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))
        border = torch.tensor([0.485, 0.456, 0.406])
        assert torch.allclose(inside, wanted, atol=1e-4)
    outside = torch.ones(331, 331, dtype=torch.bool)
    outside[top : top + side, left : left + side] = False
    assert torch.equal(defended[0][:, outside], border[:, None].expand(3, int(outside.sum())))


def test_wrong_parameters() -> None:
    with pytest.raises(InputError, match="'random': 'cubic' is unknown; choose from nearest, bilinear"):
        RandomResize(interpolation="cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'black' is unknown; choose from grey, imagenet-mean"):
        RandomResize(padding="black")  # type: ignore[arg-type]
