"""Reconstruction before the classifier (Zhang, Gao and Rao 2021, IEEE TIP 30, 6117-6129)."""

import torch
from torch import Generator, Tensor, nn

from impure.purifier.defences.static.random_resize import RandomResize
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import (
    FeatureDefault,
    Features,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.losses.perceptual import feature_pairs


class ReconstructionNetwork(TrainableNetwork):
    """The image reconstruction network: SRGAN's residual blocks at one size of image.

    It maps images in [-1,1] to images in [-1,1]. Convolutions in front of a BatchNorm have no bias, others
    have one, and each PReLU has a single slope: the paper does not say.
    """

    name = "recon"
    # The 4096 features that VGG19's last layer classifies.
    features = FeatureDefault(network="torchvision:vgg19", nodes=("classifier.4",))

    def __init__(self, *, width: int = 64, blocks: int = 16) -> None:
        """Build it with random weights.

        Args:
            width: Channels of the residual blocks; four times as many behind them.
            blocks: Residual blocks.

        Raises:
            InputError: A size is out of range.
        """
        super().__init__()
        check_sizes("recon", width=(width, 256), blocks=(blocks, 64))
        self.width = width
        self.blocks = blocks
        wide = 4 * width
        self.head = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.residual = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.merge = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.tail = nn.Sequential(
            nn.Conv2d(width, wide, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.PReLU(),
            nn.Conv2d(wide, 3, 9, padding=4),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Reconstructed images (B, 3, H, W), not clamped, of RGB in [0,1]."""
        shallow = self.head(2 * images - 1)
        deep = self.merge(self.residual(shallow))
        rebuilt: Tensor = self.tail(shallow + deep)
        return (rebuilt + 1) / 2

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """The squared distance of the feature network's outputs for rebuilt and clean images (1,)."""
        assert features is not None  # the objective sees to it
        pairs = feature_pairs(features, self(images.adversarial), *images[1:3])
        return torch.stack([squared_distance(rebuilt, clean) for rebuilt, clean in pairs]).sum(
            0, keepdim=True
        )


class ResidualBlock(nn.Module):
    """Convolution, BatchNorm, PReLU, convolution, BatchNorm, and the input added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same."""
        changed: Tensor = self.layers(maps)
        return maps + changed


def squared_distance(output: Tensor, target: Tensor) -> Tensor:
    """Squared Euclidean distance of each image's features (B, ...), and its mean, in float32 at least."""
    precise = torch.promote_types(output.dtype, torch.float32)
    return (output.to(precise) - target.to(precise)).square().flatten(1).sum(1).mean()


class Recon(NetworkDefence):
    """Rebuilds images, then resizes and pads them at random, which enlarges them (see `RandomResize`).

    Exact gradient.
    """

    network_kind = ReconstructionNetwork
    source = "Zhang et al. 2021, IEEE TIP 30"
    keeps_size = False

    def __init__(self, network: ReconstructionNetwork, *, resize: bool = True) -> None:
        """Put the network in eval mode.

        Args:
            network: The trained network.
            resize: Show the classifier the rebuilt image at a random size and place, as the paper does.
        """
        super().__init__()
        self.network = network.eval()
        self.random = RandomResize() if resize else None

    @property
    def is_random(self) -> bool:
        """Whether it resizes."""
        return self.random is not None

    def reseed(self, seed: int, *, alike: bool = False) -> None:
        """Begin the sizes and places anew; see `Defence.reseed`."""
        if self.random is not None:
            self.random.reseed(seed, alike=alike)

    def defend(self, images: Tensor) -> Tensor:
        """Return rebuilt images, (B, 3, about 1.107 H, about 1.107 W) where they are resized."""
        rebuilt: Tensor = self.network(images)
        rebuilt = rebuilt.clamp(0, 1)
        return rebuilt if self.random is None else self.random.defend(rebuilt)
