"""NRP: a purifier that learns, from clean images alone, to undo perturbations of a network's features."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.pipeline.attacks.engine.gradients import loss_and_gradient, step_scale
from impure.pipeline.attacks.engine.threat_model import LEVELS
from impure.pipeline.targets.weight_names import unwrap
from impure.pipeline.targets.weights import (
    check_shapes,
    load_strictly,
    plain_tensors,
    read_saved,
    shapes_of,
)
from impure.purifier.defences.base.parameters import Value
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import (
    FeatureDefault,
    Features,
    LearnsFrom,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.defences.trained.base.trained_weights import is_bare_file
from impure.purifier.defences.trained.edsr import conv3
from impure.purifier.losses.perceptual import feature_pairs, l1

NRPKind = Literal["rrdb", "residual"]

STEP_255 = 2.55  # of the perturbation, in units of 1/255: the program's 0.01
PIXEL_WEIGHT = 0.01  # gamma of the loss; its lambda, the features' weight, is 1

#: In published files: the trunks' blocks, and the tensors whose shapes tell the sizes.
_BLOCK = re.compile(r"(RRDB_trunk|recon_trunk)\.(\d{1,3})\..*")
_FIRST = "conv_first.weight"
_GROWTH = "RRDB_trunk.0.RDB1.conv1.weight"


class DenseBlock(nn.Module):
    """Five convolutions, each of which sees what all before it made; ESRGAN's (Wang et al. 2018)."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            conv3(width + number * growth, growth if number < 4 else width) for number in range(5)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width, H, W) to the same."""
        seen = features
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen = torch.cat([seen, F.leaky_relu(conv(seen), 0.2)], dim=1)
        last: Tensor = self.conv5(seen)
        return features + 0.2 * last


class RRDB(nn.Module):
    """Three dense blocks beside the identity."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.RDB1, self.RDB2, self.RDB3 = (DenseBlock(width, growth) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width, H, W) to the same."""
        residual: Tensor = self.RDB3(self.RDB2(self.RDB1(features)))
        return features + 0.2 * residual


class ResidualBlock(nn.Module):
    """Two convolutions beside the identity, without norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3(width, width), conv3(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, width, H, W) to the same."""
        residual: Tensor = self.conv2(self.conv1(features).relu())
        return features + residual


class RRDBPurifier(nn.Module):
    """The paper's purifier: ESRGAN's trunk without its upsampling and its long skip; 16,550,275 weights."""

    def __init__(self, width: int, blocks: int, growth: int) -> None:
        super().__init__()
        self.conv_first = conv3(3, width)
        self.RRDB_trunk = nn.Sequential(*(RRDB(width, growth) for _ in range(blocks)))
        self.trunk_conv = conv3(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        """RGB in [0,1] (B, 3, H, W) to the same, which may leave [0,1] a little."""
        purified: Tensor = self.trunk_conv(self.RRDB_trunk(self.conv_first(images)))
        return purified


class ResidualPurifier(nn.Module):
    """The small one of the authors' program, `NRP_resG`."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.conv_first = conv3(3, width)
        self.recon_trunk = nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)))
        self.conv_last = conv3(width, 3)

    def forward(self, images: Tensor) -> Tensor:
        """RGB in [0,1] (B, 3, H, W) to the same, which may leave [0,1] a little."""
        features = F.leaky_relu(self.conv_first(images), 0.1)
        purified: Tensor = self.conv_last(self.recon_trunk(features))
        return purified


class NRPNetwork(TrainableNetwork):
    """A purifier, and how it learns from clean images alone (Naseer et al. 2020, section 3).

    Its attacked images are self-supervised perturbations: they maximise the distance of a frozen network's
    features. Its loss is the L1 distance of features from the clean image's, and 0.01 times the mean squared
    distance of pixels (u: norms and weights). The paper's adversarial loss, weighted 0.005, is left out: it
    needs a discriminator with an optimiser of its own. The paper makes its perturbations once, before
    training; here each update makes its own.
    """

    name: ClassVar[str] = "nrp"
    learns_from: ClassVar[LearnsFrom] = "clean"
    loss_names: ClassVar[tuple[str, ...]] = ("loss", "feature", "pixel")
    features: ClassVar[FeatureDefault | None] = FeatureDefault(
        network="torchvision:vgg16",
        nodes=("features.15",),  # conv3_3, after its ReLU
    )

    def __init__(
        self,
        *,
        kind: NRPKind = "rrdb",
        width: int = 64,
        blocks: int = 23,
        growth: int = 32,
        eps_255: int = 16,
        steps: int = 100,
    ) -> None:
        """Build it with random weights.

        Args:
            kind: `rrdb`, the paper's purifier, or `residual`, its program's small one.
            width: Channels.
            blocks: Blocks of the trunk.
            growth: Channels that each convolution of a dense block adds; of no meaning for `residual`.
            eps_255: Bound of the perturbations that it learns from, in units of 1/255.
            steps: Gradient steps for each of them.

        Raises:
            InputError: The kind is unknown, or a size is below 1 or enormous.
        """
        super().__init__()
        if kind not in get_args(NRPKind):
            raise InputError(f"nrp: no kind {kind!r}; choose from {', '.join(get_args(NRPKind))}")
        check_sizes(self.name, width=(width, 512), blocks=(blocks, 64), growth=(growth, 256))
        check_sizes(self.name, eps_255=(eps_255, LEVELS), steps=(steps, 1000))
        self.kind, self.width, self.blocks, self.growth = kind, width, blocks, growth
        self.eps_255, self.steps = eps_255, steps
        self.purifier: nn.Module = (
            RRDBPurifier(width, blocks, growth) if kind == "rrdb" else ResidualPurifier(width, blocks)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Purify RGB images in [0,1] (B, 3, H, W); the result may leave [0,1] a little."""
        purified: Tensor = self.purifier(images)
        return purified

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """Loss, feature loss and pixel loss (3,) of clean images; attacked ones are not looked at.

        Raises:
            InputError: There is no feature network.
        """
        if features is None:
            raise InputError("nrp learns from a network's features; give --features")
        clean = images.clean
        attacked = perturb(clean, features, generator, eps=self.eps_255 / LEVELS, steps=self.steps)
        purified = self(attacked)
        pairs = feature_pairs(features, purified, clean, torch.arange(len(clean), device=clean.device))
        feature_loss = torch.stack([l1(made, goal) for made, goal in pairs]).mean()
        pixel_loss = (purified.to(clean.dtype) - clean).square().mean()
        return torch.stack([feature_loss + PIXEL_WEIGHT * pixel_loss, feature_loss, pixel_loss])


class NRP(NetworkDefence):
    """Purifies with a generator that learnt to undo feature-maximising perturbations; exact gradient."""

    source: ClassVar[str] = "Naseer et al. 2020, arXiv:2006.04924"
    network_kind: ClassVar[type[TrainableNetwork]] = NRPNetwork

    def __init__(self, network: NRPNetwork) -> None:
        """Put the trained network in eval mode."""
        super().__init__()
        self.network = network.eval()

    @classmethod
    def load(cls, weights: str) -> nn.Module:
        """Read a run of impure-train, or a file of weights with no config beside it (see `read_purifier`)."""
        if is_bare_file(weights):
            return read_purifier(Path(weights))
        return super().load(weights)

    def defend(self, images: Tensor) -> Tensor:
        """Return purified images."""
        purified: Tensor = self.network(images)
        return purified.clamp(0, 1)


def perturb(clean: Tensor, features: Features, generator: Generator, *, eps: float, steps: int) -> Tensor:
    """Move images so that a network's features move as far as they can: self-supervised perturbations.

    From a random point of the budget, steps along the sign of the gradient of the features' mean squared
    distance from the clean image's.

    Args:
        clean: RGB in [0,1] (U, 3, H, W).
        features: The frozen network.
        generator: Of the starting points, on the images' device.
        eps: Bound of the perturbation on pixels in [0,1].
        steps: How many.

    Returns:
        RGB in [0,1] (U, 3, H, W), within `eps` of the clean images.
    """

    def joined(images: Tensor) -> Tensor:
        return torch.cat([part.flatten(1) for part in features(images)], dim=1)

    with torch.no_grad():
        wanted = joined(clean)
    lower, upper = (clean - eps).clamp(min=0), (clean + eps).clamp(max=1)
    noise = torch.rand(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
    images = torch.clamp(clean + eps * (2 * noise - 1), lower, upper)
    for _ in range(steps):
        direction = loss_and_gradient(joined, images, lambda made: (made - wanted).square().mean(1))[2]
        images = torch.clamp(
            images + direction.sign() * step_scale(direction, STEP_255 / LEVELS), lower, upper
        )
    return images


def read_purifier(path: Path) -> NRPNetwork:
    """A published purifier, on the CPU, in eval mode.

    Args:
        path: `.safetensors`, or what `torch.save` made of weights, such as the authors' `NRP.pth` and
            `NRP_resG.pth`.

    Raises:
        InputError: The file cannot be read without running code, or holds another or an enormous network, or
            values that are not finite.
    """
    content, _ = unwrap(read_saved(path))
    weights = plain_tensors(content, str(path))
    sizes: dict[str, Any] = published_sizes(weights, str(path))
    try:
        with torch.device("meta"):  # nothing is built before names and shapes are compared
            expected = shapes_of(NRPNetwork(**sizes).purifier.state_dict())
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    check_shapes(expected, shapes_of(weights), str(path))
    network = NRPNetwork(**sizes)
    load_strictly(network.purifier, weights, str(path))
    return network.eval()


def published_sizes(weights: Mapping[str, Tensor], where: str) -> dict[str, Value]:
    """The sizes (see `NRPNetwork`) that follow from names and shapes of published weights.

    Raises:
        InputError: A tensor that they follow from is missing; the message begins with `where`.
    """
    blocks = {block[2] for name in weights if (block := _BLOCK.fullmatch(name))}
    first, growth = weights.get(_FIRST), weights.get(_GROWTH)
    if first is None or not first.dim() or not blocks:
        raise InputError(
            f"{where}: no purifier of NRP, which has {_FIRST} and an RRDB_trunk or a recon_trunk"
        )
    sizes: dict[str, Value] = {"width": len(first), "blocks": len(blocks)}
    if growth is None:
        return {"kind": "residual", **sizes}
    return {"kind": "rrdb", **sizes, "growth": len(growth) if growth.dim() else 0}
