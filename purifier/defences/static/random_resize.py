"""Random resizing and padding (Xie et al. 2018, arXiv:1711.01991)."""

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.random_defence import RandomDefence
from impure.purifier.riae.model import MEAN

Interpolation = Literal["nearest", "bilinear"]
Padding = Literal["grey", "imagenet-mean"]

# For images of 299 pixels, as the paper has them; other sides in proportion.
SIDE = 299
SMALLEST, LARGEST = 310, 330
PADDED = 331


class RandomResize(RandomDefence):
    """Enlarges to a random size and pads at random.

    Images of 299 x 299 are resized to r x r by nearest neighbours, r uniform among 310 … 330, and put at a
    uniform place into 331 x 331, which the classifier sees; so **the size changes**. For a side s all these
    are multiplied by s/299 and rounded. The padding is 0 in the paper's [-1, 1]: mid-grey.

    Every image gets its own draw; the gradient is exact for fixed draws. Uncertain: the authors' competition
    program draws once for a batch, also flips images, and adds up the predictions of 30 draws; the paper's
    defence is one draw without flips. `random-impure` is what RIAE's paper (arXiv:2311.15339) compared with:
    bilinear, padded with ImageNet's mean.
    """

    source = "Xie et al. 2018, arXiv:1711.01991"
    gradient = "exact"
    threat_model = "white-box"  # "single-pattern" and "ensemble-pattern" attacks know of it
    keeps_size = False

    def __init__(self, *, interpolation: Interpolation = "nearest", padding: Padding = "grey") -> None:
        """Set how images are resized, and what is put around them.

        Args:
            interpolation: `nearest` or `bilinear` (without antialiasing).
            padding: `grey` (0.5) or `imagenet-mean`.

        Raises:
            InputError: A value is unknown.
        """
        super().__init__()
        for value, choices in ((interpolation, get_args(Interpolation)), (padding, get_args(Padding))):
            if value not in choices:
                raise InputError(f"defence 'random': {value!r} is unknown; choose from {', '.join(choices)}")
        self.interpolation = interpolation
        self.padding = padding

    def defend(self, images: Tensor) -> Tensor:
        """Return enlarged and padded images, (B, 3, about 1.107 H, about 1.107 W)."""
        rows = self.rows(images)
        drawn = self.integers(torch.full((rows,), SMALLEST), torch.tensor(LARGEST))
        sizes = torch.tensor([_scaled(images, int(side)) for side in drawn])  # rows, 2
        corners = self.integers(torch.tensor(0), torch.tensor(_scaled(images, PADDED)) - sizes)
        groups = images.split(len(images) // rows)  # one by one, or all alike
        return torch.cat(
            [
                self._place(group, size.tolist(), corner.tolist())
                for group, size, corner in zip(groups, sizes, corners, strict=True)
            ]
        )

    def _place(self, images: Tensor, size: list[int], corner: list[int]) -> Tensor:
        """Images resized to one size (height, width), their upper left corner at one place (row, column)."""
        (height, width), (top, left) = size, corner
        colour = images.new_tensor(MEAN if self.padding == "imagenet-mean" else (0.5, 0.5, 0.5))
        canvas = colour.view(3, 1, 1).repeat(len(images), 1, *_scaled(images, PADDED))
        canvas[..., top : top + height, left : left + width] = F.interpolate(
            images, (height, width), mode=self.interpolation
        )
        return canvas


def _scaled(images: Tensor, side: int) -> list[int]:
    """Height and width of what is `side` high and wide for images of 299 x 299."""
    return [round(side * length / SIDE) for length in images.shape[2:]]
