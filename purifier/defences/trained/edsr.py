"""EDSR-baseline x2, the super-resolution network of `wavelet-sr` (Lim et al. 2017, arXiv:1707.02921)."""

from typing import ClassVar, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import (
    Features,
    LearnsFrom,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.losses.perceptual import l1

MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K's RGB images, which the authors trained on
LEVELS = 255.0  # the network computes in 8-bit levels around that mean


class ResidualBlock(nn.Module):
    """Two convolutions around a ReLU, added to what comes in; no BatchNorm (section 3.1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3(width, width), nn.ReLU(), conv3(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """Map features (B, width, H, W) to the same."""
        return features + cast(Tensor, self.body(features))


class EDSR(TrainableNetwork):
    """EDSR-baseline: 16 blocks of 64 channels, 1.37 M parameters, residual scale 1 (Table 1).

    Parameters have the names of the published files. Unlike the authors', ours is trained without flips and
    rotations.
    """

    name: ClassVar[str] = "edsr"
    learns_from: ClassVar[LearnsFrom] = "clean"
    multiple: int = 2

    mean: Tensor

    def __init__(self, *, blocks: int = 16, width: int = 64) -> None:
        """Draw random weights.

        Args:
            blocks: Residual blocks.
            width: Channels of the features.

        Raises:
            InputError: A size is out of bounds.
        """
        super().__init__()
        check_sizes("edsr", blocks=(blocks, 64), width=(width, 512))
        self.blocks = blocks
        self.width = width
        self.head = nn.Sequential(conv3(3, width))
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)), conv3(width, width))
        upsample = nn.Sequential(conv3(width, 4 * width), nn.PixelShuffle(2))
        self.tail = nn.Sequential(upsample, conv3(width, 3))
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Double the sides of RGB images in [0,1] (B, 3, H, W); what comes out may reach beyond [0,1]."""
        features = self.head(LEVELS * (images - self.mean))
        doubled: Tensor = self.tail(features + self.body(features))
        return doubled / LEVELS + self.mean

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """L1 distance (1,) between the clean images and what their halves are doubled to (section 4.2)."""
        return l1(self(halve(images.clean)), images.clean)[None]


def conv3(channels: int, outputs: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps height and width."""
    return nn.Conv2d(channels, outputs, 3, padding=1)


def halve(images: Tensor) -> Tensor:
    """Halve the even sides of images in [0,1] (B, 3, H, W), bicubic with antialias as DIV2K was."""
    halved = F.interpolate(images, scale_factor=0.5, mode="bicubic", antialias=True)
    return halved.clamp(0, 1)
