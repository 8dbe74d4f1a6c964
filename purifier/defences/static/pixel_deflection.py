"""Pixel deflection and wavelet denoising (Prakash et al. 2018, arXiv:1801.08926)."""

from typing import Literal, get_args

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.random_defence import RandomDefence
from impure.purifier.defences.static.wavelet_denoising import check_installed, denoise

Channels = Literal["apart", "together"]

MOST_DEFLECTIONS = 1_000_000


class PixelDeflection(RandomDefence):
    """Overwrites random pixels by neighbours, then denoises by wavelets.

    A deflection copies into a uniformly drawn value another of its channel, at most `window` rows and columns
    away, uniform among those inside the image. Deflections come one after the other: one may copy what an
    earlier one wrote. They go through the channels in turn, so that 200 move about 67 values of each. See
    `wavelet_denoising` for the rest. The gradient of deflection is exact, that of denoising straight-through.

    Uncertain: the authors' program ends after whole rounds of three channels (201 deflections), and takes the
    uppermost row and the leftmost column for outside when it looks for neighbours. The paper's saliency maps
    (robust class activation maps) are left out, as in the programs that others compared with.
    `pixel-deflection-impure` is what RIAE's paper (arXiv:2311.15339) compared with: 12,000 deflections of
    whole pixels in a window of 20, and the noise is estimated. On small images that leaves little: half of
    the pixels of 128 x 128 are overwritten, an eighth of 299 x 299.
    """

    source = "Prakash et al. 2018, arXiv:1801.08926"
    gradient = "straight-through"
    extra = "defences"

    def __init__(
        self,
        *,
        deflections: int = 200,
        window: int = 10,
        channels: Channels = "apart",
        sigma: float = 0.04,
        estimate_sigma: bool = False,
    ) -> None:
        """Set the number and reach of deflections, and the noise to be removed.

        Args:
            deflections: How many; each of one channel, or of all.
            window: The farthest neighbour, in rows and in columns.
            channels: `apart`: each deflection moves a value of one channel; `together`: a whole pixel.
            sigma: Standard deviation of the noise that is removed, in channels scaled to [0, 1].
            estimate_sigma: Estimate it from each channel of each image instead.

        Raises:
            InputError: A value is impossible, or scikit-image is not installed.
        """
        super().__init__()
        if not 1 <= deflections <= MOST_DEFLECTIONS or window < 1 or not 0 <= sigma < float("inf"):
            raise InputError(
                f"defence 'pixel-deflection': {deflections} deflections, window {window}, sigma {sigma}; "
                f"deflections are 1 to {MOST_DEFLECTIONS}, the window 1 or more, sigma 0 or more"
            )
        if channels not in get_args(Channels):
            raise InputError(
                f"defence 'pixel-deflection': channels {channels!r}; choose {' or '.join(get_args(Channels))}"
            )
        check_installed()
        self.deflections = deflections
        self.window = window
        self.channels = channels
        self.sigma = None if estimate_sigma else sigma

    def defend(self, images: Tensor) -> Tensor:
        """Return deflected and denoised images."""
        return denoise(self.deflect(images), self.sigma)

    def deflect(self, images: Tensor) -> Tensor:
        """Return deflected images alone."""
        written, read = self._draw(images)
        planes = images.flatten(1)[:, None] if self.channels == "apart" else images.flatten(2)
        origin = origins(written, read, planes.shape[2]).to(images.device)
        return planes.gather(2, origin[:, None].expand_as(planes)).view_as(images)

    def _draw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The places in the planes of `deflect` that are written, and read; (rows, deflections) each."""
        height, width = images.shape[2:]
        shape = (self.rows(images), self.deflections)
        first = torch.arange(self.deflections) % 3 * (height * width) if self.channels == "apart" else 0
        row, row_read = self._neighbours(shape, height)
        column, column_read = self._neighbours(shape, width)
        return first + row * width + column, first + row_read * width + column_read

    def _neighbours(self, shape: tuple[int, int], length: int) -> tuple[Tensor, Tensor]:
        """Uniform places along a side, and for each one within the window.

        Redrawing until both lie inside, as the authors do, gives the same distribution.
        """
        place = self.integers(torch.zeros(shape, dtype=torch.int64), torch.tensor(length - 1))
        nearest = (place - self.window).clamp(min=0)
        return place, self.integers(nearest, (place + self.window).clamp(max=length - 1))


def origins(written: Tensor, read: Tensor, size: int) -> Tensor:
    """Where each place's value comes from after deflections made one after the other.

    Args:
        written: Places that the deflections write, in order (rows, deflections).
        read: Places that they read.
        size: The number of places.

    Returns:
        Places before all deflections (rows, size).
    """
    count = written.shape[1]
    times = torch.arange(count).expand_as(written)
    keys = (written * count + times).sort(1).values  # by place, and for one place by time
    before = (
        torch.searchsorted(keys, read * count + times) - 1
    )  # the last of these, if it is of the same place
    key = keys.gather(1, before.clamp(min=0))
    copies_earlier = (before >= 0) & (key // count == read)
    source = torch.where(copies_earlier, key % count, times)  # the deflection whose value is copied on
    for _ in range(count.bit_length()):
        source = source.gather(1, source)  # chains become twice as short each time
    last = torch.full((len(written), size), -1).scatter_reduce(1, written, times, "amax")
    moved = read.gather(1, source).gather(1, last.clamp(min=0))
    return torch.where(last >= 0, moved, torch.arange(size))
