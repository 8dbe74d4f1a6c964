"""DISCO: an encoder and a local implicit function that predicts each pixel from the features around it."""

from typing import ClassVar, cast

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import Features, TrainableNetwork, TrainingImages
from impure.purifier.defences.trained.edsr import ResidualBlock, conv3
from impure.purifier.losses.perceptual import l1

QUERIES = 1 << 15  # pixels of all images of a batch that are queried at once: bounds the memory
NEIGHBOURS = 3  # side of the window of features that a latent code unfolds
PLACE = 4  # what the function is told beside a code: relative coordinate and cell, two numbers each
_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_LEAST_AREA = 1e-9  # added to each area, as LIIF has it: a pixel at the rim lies on two codes at once
_LEAST_WEIGHT = 1e-6  # of a code that is asked; lighter ones change no 8-bit level


class Encoder(nn.Module):
    """EDSR without its upsampling (Lim et al. 2017): features of the image's size."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.head = nn.Sequential(conv3(3, width))
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)), conv3(width, width))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) to features (B, width, H, W)."""
        features: Tensor = self.head(images)
        residual: Tensor = self.body(features)
        return features + residual


class ImplicitFunction(nn.Module):
    """The MLP that tells the colour at a place from a code: the 3 x 3 features around a pixel."""

    def __init__(self, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.width = width
        first: list[nn.Module] = [nn.Linear(width * NEIGHBOURS**2 + PLACE, hidden)]
        inner = [part for _ in range(layers - 1) for part in (nn.ReLU(), nn.Linear(hidden, hidden))]
        self.layers = nn.Sequential(*first, *inner, nn.ReLU(), nn.Linear(hidden, 3))

    def unfold(self, features: Tensor) -> Tensor:
        """What the first layer makes of each pixel's code alone: (B, width, H, W) to (B, hidden, H, W).

        A linear layer of unfolded features is a convolution: nothing of nine times their size is stored.
        """
        first = self._first
        weight = first.weight[:, :-PLACE].unflatten(1, (self.width, NEIGHBOURS, NEIGHBOURS))
        return F.conv2d(features, weight, first.bias, padding=NEIGHBOURS // 2)

    def forward(self, codes: Tensor, place: Tensor) -> Tensor:
        """Colours (B, N, 3) of codes (B, N, hidden) from `unfold`, each at its place (N, 4)."""
        colours: Tensor = self.layers[1:](codes + F.linear(place, self._first.weight[:, -PLACE:]))
        return colours

    @property
    def _first(self) -> nn.Linear:
        return cast(nn.Linear, self.layers[0])


class DiscoNetwork(TrainableNetwork):
    """EDSR-baseline as encoder, and LIIF's function: an MLP with four hidden layers of 256.

    The MLP is asked for the colour at a point, given a code (the 3 x 3 features around a pixel), the point's
    coordinate relative to that pixel and the size of a queried pixel, both in halves of a pixel. What it says
    for the four codes nearest to the point is weighted by the area that each spans with the point's opposite
    corner (LIIF, Chen et al. 2021, section 3, "local ensemble").

    Parameters are named as in the authors' program; values lie in [-1, 1] inside. Source: Ho & Vasconcelos
    2022, section 3; sizes as in its program's configuration.
    """

    name: ClassVar[str] = "disco"

    def __init__(self, *, width: int = 64, blocks: int = 16, hidden: int = 256, layers: int = 4) -> None:
        """Build it with random weights.

        Args:
            width: Channels of the encoder.
            blocks: Residual blocks of the encoder.
            hidden: Numbers in a hidden layer of the MLP.
            layers: Hidden layers of the MLP.

        Raises:
            InputError: A size is below 1 or enormous.
        """
        super().__init__()
        check_sizes(
            self.name, width=(width, 512), blocks=(blocks, 64), hidden=(hidden, 2048), layers=(layers, 16)
        )
        self.width, self.blocks, self.hidden, self.layers = width, blocks, hidden, layers
        self.encoder = Encoder(width, blocks)
        self.imnet = ImplicitFunction(width, hidden, layers)

    def forward(self, images: Tensor) -> Tensor:
        """Rebuild each pixel of RGB images in [0,1] (B, 3, H, W); the result may leave [0,1] a little."""
        height, width = images.shape[2:]
        codes = self.encode(images)
        points = pixel_centres(height, width, images)
        chunk = max(QUERIES // len(images), 1)
        colours = torch.cat([self.query(codes, part) for part in points.split(chunk)], dim=2)
        return colours.reshape(-1, 3, height, width) / 2 + 0.5

    def encode(self, images: Tensor) -> Tensor:
        """Codes (B, hidden, H, W) of RGB images in [0,1] (B, 3, H, W), as the function takes them."""
        codes: Tensor = self.imnet.unfold(self.encoder(images * 2 - 1))
        return codes

    def query(self, codes: Tensor, points: Tensor) -> Tensor:
        """The colour of the images at some points.

        Args:
            codes: See `encode`.
            points: Row and column (Q, 2), in pixels from the upper left corner.

        Returns:
            RGB in [-1,1] (B, 3, Q).
        """
        index, offset, weight = local_ensemble(points, codes.shape[2], codes.shape[3])
        asked = weight > _LEAST_WEIGHT  # (4, Q); at a pixel's centre its own code alone, but for the rim
        point = torch.arange(len(points), device=points.device).expand_as(index)[asked]
        place = torch.cat([offset[asked], torch.full_like(offset[asked], 2.0)], dim=1)  # cells of one pixel
        told = codes.flatten(2).index_select(2, index[asked]).transpose(1, 2)  # B, asked, hidden
        colours = self.imnet(told, place.to(told)) * weight[asked, None].to(told)
        total: Tensor = colours.new_zeros(len(codes), len(points), 3).index_add(1, point, colours)
        return total.transpose(1, 2)

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """The L1 distance from clean images, in [-1,1] (section 3.3)."""
        rebuilt: Tensor = self(images.adversarial)
        return l1(rebuilt * 2 - 1, images.clean[images.clean_row] * 2 - 1)[None]


class Disco(NetworkDefence):
    """Rebuilds each pixel from the features around it; exact gradient."""

    source: ClassVar[str] = "Ho & Vasconcelos 2022, arXiv:2212.05630"
    threat_model: ClassVar[str] = "white-box"
    network_kind: ClassVar[type[TrainableNetwork]] = DiscoNetwork

    def __init__(self, network: DiscoNetwork) -> None:
        """Put the trained network in eval mode."""
        super().__init__()
        self.network = network.eval()

    def defend(self, images: Tensor) -> Tensor:
        """Return rebuilt images."""
        rebuilt: Tensor = self.network(images)
        return rebuilt.clamp(0, 1)


def pixel_centres(height: int, width: int, like: Tensor) -> Tensor:
    """Row and column of each pixel's centre (height * width, 2), row by row, in pixels from the corner."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    rows, columns = (torch.arange(side, device=like.device, dtype=dtype) for side in (height, width))
    return torch.cartesian_prod(rows + 0.5, columns + 0.5)


def local_ensemble(points: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The four codes nearest to each point, and how much each counts.

    Args:
        points: Row and column (Q, 2), in pixels from the upper left corner.
        height: Rows of codes; code (i, j) lies at (i + 0.5, j + 0.5).
        width: Columns of codes.

    Returns:
        The codes' indices, counted row by row (4, Q); the points relative to them, in halves of a pixel
        (4, Q, 2); and their weights (4, Q), which sum to 1.
    """
    last = torch.tensor([height - 1, width - 1], device=points.device)
    corners = torch.tensor(_CORNERS, device=points.device)[:, None]
    codes = ((points - 0.5).floor().long() + corners).clamp(min=0).minimum(last)  # 4, Q, 2
    offset = (points - codes - 0.5) * 2
    area = offset.prod(2).abs() + _LEAST_AREA
    return codes[..., 0] * width + codes[..., 1], offset, area.flip(0) / area.sum(0)
