"""HGD, the high-level representation guided denoiser (Liao et al. 2018, arXiv:1712.02976)."""

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import (
    FeatureDefault,
    Features,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.losses.perceptual import feature_pairs, l1

FACTORS = (1, 2, 4, 4, 4)  # of the width, in each block on the way down
CONVOLUTIONS = (2, 3, 3, 3, 3)  # in each block, on the way down and on the way up


class DenoisingUNet(TrainableNetwork):
    """DUNET (section 4.2): a U-Net that predicts the adversarial noise, which is subtracted from the image.

    Its loss is the mean absolute difference of the target's logits for the clean and the denoised image (LGD;
    of its features where nodes are named: FGD); the target is frozen. It works on images in [-1,1], of any
    size: each block on the way up resizes to its neighbour's on the way down.
    """

    name = "hgd"
    features = FeatureDefault()  # logits of the shards' classifier

    def __init__(self, *, width: int = 64, levels: int = 5) -> None:
        """Build it with random weights.

        Args:
            width: Channels at full size; on the way down 2, 4, 4 and 4 times as many.
            levels: Sizes of images, each half of the one before.

        Raises:
            InputError: A size is out of range.
        """
        super().__init__()
        check_sizes("hgd", width=(width, 256), levels=(levels, len(FACTORS)))
        self.width = width
        self.levels = levels
        self.multiple = 2 ** (levels - 1)
        widths = [width * factor for factor in FACTORS[:levels]]
        self.down = nn.ModuleList(
            convolutions(channels_in, channels, count, stride=1 if channels_in == 3 and level == 0 else 2)
            for level, (channels_in, channels, count) in enumerate(
                zip([3, *widths], widths, CONVOLUTIONS, strict=False)
            )
        )
        self.up = nn.ModuleList(
            convolutions(below + channels, channels, count)
            for below, channels, count in zip(widths[1:], widths, CONVOLUTIONS, strict=False)
        )
        self.noise = nn.Conv2d(width, 3, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Denoised images (B, 3, H, W), not clamped, of RGB in [0,1]."""
        return images - self.predict_noise(2 * images - 1) / 2

    def predict_noise(self, images: Tensor) -> Tensor:
        """The noise (B, 3, H, W) of images in [-1,1]."""
        laterals = []
        maps = images
        for block in self.down:
            maps = block(maps)
            laterals.append(maps)
        for block, lateral in zip(reversed(self.up), reversed(laterals[:-1]), strict=True):
            resized = F.interpolate(maps, lateral.shape[2:], mode="bilinear", align_corners=False)
            maps = block(torch.cat([resized, lateral], dim=1))
        noise: Tensor = self.noise(maps)
        return noise

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """The L1 distance of the target's outputs for denoised and clean images (1,) (Eq. 5)."""
        assert features is not None  # the objective sees to it
        pairs = feature_pairs(features, self(images.adversarial), *images[1:3])
        return torch.stack([l1(denoised, clean) for denoised, clean in pairs]).sum(0, keepdim=True)


def convolutions(channels_in: int, channels: int, count: int, stride: int = 1) -> nn.Sequential:
    """A block: 3x3 convolutions, the first with the stride, each with BatchNorm and ReLU."""
    layers: list[nn.Module] = []
    for number in range(count):
        width = channels if number else channels_in
        layers += [
            nn.Conv2d(width, channels, 3, stride=1 if number else stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class HGD(NetworkDefence):
    """Subtracts the noise that `DenoisingUNet` predicts; exact gradient."""

    network_kind = DenoisingUNet
    source = "Liao et al. 2018, arXiv:1712.02976"

    def __init__(self, network: DenoisingUNet) -> None:
        """Put the network in eval mode."""
        super().__init__()
        self.network = network.eval()

    def defend(self, images: Tensor) -> Tensor:
        """Return denoised images."""
        denoised: Tensor = self.network(images)
        return denoised.clamp(0, 1)
