"""ComDefend: images through a code of 12 bits a pixel, half of theirs (Jia et al. 2019, arXiv:1811.12673)."""

from itertools import pairwise
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from impure.purifier.defences.base.defence import Gradient
from impure.purifier.defences.base.straight_through import straight_through
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import (
    Features,
    LearnsFrom,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.riae.patches import reflect_pad

PATCH = 32  # pixels; images are coded in patches of this side, each by itself
CODE = 12  # channels of the code, a bit each
SHIFT = 0.5  # taken off the images
_WIDTHS = (1, 2, 4, 8, 16, 8, 4, 2)  # of the layers between images and code, in units of `width`


class ComDefendNetwork(TrainableNetwork):
    """ComCNN and RecCNN, nine 3 x 3 convolutions with ELU each (section 3, Tables 1 and 2).

    The output's sigmoid, the code's penalty after the sigmoid and Adam's first beta are those of the authors'
    program (its PyTorch version), where the paper's text leaves them open.
    """

    name: ClassVar[str] = "comdefend"
    learns_from: ClassVar[LearnsFrom] = "clean"
    loss_names: ClassVar[tuple[str, ...]] = ("loss", "distance", "code")
    multiple: int = PATCH

    def __init__(self, *, width: int = 16, noise: float = 20.0, penalty: float = 1e-4) -> None:
        """Draw random weights.

        Args:
            width: Channels of ComCNN's first layer; the others follow in the paper's proportions.
            noise: Standard deviation of what is taken off the code in training.
            penalty: Weight of the code's mean square, lambda.

        Raises:
            InputError: A size is out of bounds.
        """
        super().__init__()
        check_sizes("comdefend", width=(width, 128), noise=(noise, 1e3), penalty=(1 + penalty, 2))
        self.width = width
        self.noise = noise
        self.penalty = penalty
        inner = [width * factor for factor in _WIDTHS]
        self.com = _convolutions([3, *inner, CODE])
        self.rec = _convolutions([CODE, *inner[1:], inner[0], 3])

    def code(self, images: Tensor) -> Tensor:
        """Linear codes (B, 12, H, W) of RGB images in [0,1] (B, 3, H, W)."""
        code: Tensor = self.com(images - SHIFT)
        return code

    def rebuild(self, bits: Tensor) -> Tensor:
        """RGB images in [0,1] (B, 3, H, W) of codes in [0,1] (B, 12, H, W)."""
        return torch.sigmoid(self.rec(bits))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) through their binary code."""
        return self.rebuild(binarise(self.code(images), self.noise))

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """Mean square of the images' distance, that of the code, and their weighted sum first (Eq. 4)."""
        clean = to_patches(images.clean)
        code = self.code(clean)
        noise = torch.randn(code.shape, generator=generator, device=code.device, dtype=clean.dtype)
        bits = torch.sigmoid(code - self.noise * noise)
        distance = (self.rebuild(bits) - clean).square().mean()
        length = bits.square().mean()
        return torch.stack([distance + self.penalty * length, distance, length])


class ComDefend(NetworkDefence):
    """Codes an image with 12 bits a pixel, in patches of 32 pixels by themselves, and rebuilds it.

    The code is 1 where it is positive, without noise. The gradient is straight-through: exact but for the
    step to bits (see `binarise`). Sides that are no multiples of 32 are reflected beyond their ends.
    """

    source: ClassVar[str] = "Jia et al. 2019, arXiv:1811.12673"
    gradient: ClassVar[Gradient] = "straight-through"
    network_kind: ClassVar[type[TrainableNetwork]] = ComDefendNetwork

    def __init__(self, network: ComDefendNetwork, *, bgr: bool = False) -> None:
        """Put the network in eval mode.

        Args:
            network: Trained.
            bgr: Show it images with red and blue swapped, as the authors' program does, whose network learnt
                from RGB; the result is swapped back.
        """
        super().__init__()
        self.network = network.eval()
        self.bgr = bgr

    def defend(self, images: Tensor) -> Tensor:
        """Return rebuilt images."""
        shown = reflect_pad(images.flip(1) if self.bgr else images, PATCH)
        rebuilt = from_patches(self.network(to_patches(shown)), *shown.shape[2:])
        rebuilt = rebuilt[..., : images.shape[2], : images.shape[3]]
        return rebuilt.flip(1) if self.bgr else rebuilt


def binarise(code: Tensor, noise: float) -> Tensor:
    """1 where a code is positive, else 0, with the gradient of what noise makes of it on average.

    Codes grow far beyond the noise that they were trained with, where the sigmoid's derivative is zero in
    float32. That of the expected bit, P(code > noise), reaches further, and is what an attacker needs.

    Args:
        code: Linear codes of any shape.
        noise: Standard deviation of the normal noise.
    """
    return straight_through(torch.special.ndtr(code / noise), (code > 0).to(code.dtype))


def _convolutions(channels: list[int]) -> nn.Sequential:
    """3 x 3 convolutions between those numbers of channels, with ELU but behind the last.

    Glorot's initial weights keep the signal's size through the layers; PyTorch's own would lose it.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(channels):
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        nn.init.xavier_uniform_(convolution.weight)
        layers += [convolution, nn.ELU()]
    return nn.Sequential(*layers[:-1])


def to_patches(images: Tensor) -> Tensor:
    """Cut images (B, C, H, W) into patches of 32 pixels (B * N, C, 32, 32), row by row."""
    batch, channels, height, width = images.shape
    cut = images.reshape(batch, channels, height // PATCH, PATCH, width // PATCH, PATCH)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, PATCH, PATCH)


def from_patches(patches: Tensor, height: int, width: int) -> Tensor:
    """Put patches (B * N, C, 32, 32) together again as images (B, C, height, width)."""
    channels = patches.shape[1]
    cut = patches.reshape(-1, height // PATCH, width // PATCH, channels, PATCH, PATCH)
    return cut.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, height, width)
