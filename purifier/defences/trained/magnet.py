"""MagNet: autoencoders reform images, detectors refuse some (Meng & Chen 2017, arXiv:1705.09064)."""

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.classify import Classifier
from impure.purifier.defences.base.defence import Gradient
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.network_sizes import check_sizes
from impure.purifier.defences.trained.base.trainable import (
    Features,
    LearnsFrom,
    TrainableNetwork,
    TrainingImages,
)
from impure.purifier.riae.patches import reflect_pad

TEMPERATURES = (10.0, 40.0)  # of the detectors by divergence (section 4.2.2)


class MagNetNetwork(TrainableNetwork):
    """The autoencoders of the paper's Table 3: one with a pooling, which reforms, and one without.

    Each learns by itself: their losses share no parameter. The authors' program also penalises activations by
    1e-9, which is left out. Their noise is drawn once for all epochs, ours anew each time.
    """

    name: ClassVar[str] = "magnet"
    learns_from: ClassVar[LearnsFrom] = "clean"
    loss_names: ClassVar[tuple[str, ...]] = ("loss", "reformer", "detector")
    multiple: int = 2

    def __init__(self, *, width: int = 3, noise: float = 0.1) -> None:
        """Draw random weights.

        Args:
            width: Channels of every hidden layer: 3 for the paper's MNIST, 32 for its CIFAR-10.
            noise: Standard deviation of what is added to the images in training: 0.1, or 0.025.

        Raises:
            InputError: A size is out of bounds.
        """
        super().__init__()
        check_sizes("magnet", width=(width, 1024), noise=(1 + noise, 2))
        self.width = width
        self.noise = noise
        self.reformer = nn.Sequential(
            _layer(3, width),
            nn.AvgPool2d(2),
            _layer(width, width),
            _layer(width, width),
            nn.Upsample(scale_factor=2),
            _layer(width, width),
            _layer(width, 3),
        )
        self.detector = nn.Sequential(_layer(3, width), _layer(width, width), _layer(width, 3))

    def reform(self, images: Tensor) -> Tensor:
        """What the reformer makes of images (B, 3, H, W) of any size."""
        reformed: Tensor = self.reformer(reflect_pad(images, self.multiple))
        return reformed[..., : images.shape[2], : images.shape[3]]

    def losses(self, images: TrainingImages, generator: Generator, features: Features | None) -> Tensor:
        """Mean squared errors of both autoencoders on noisy images, their sum first (Eq. 1)."""
        clean = images.clean
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        noisy = (clean + self.noise * noise).clamp(0, 1)
        errors = [(network(noisy) - clean).square().mean() for network in (self.reformer, self.detector)]
        return torch.stack([sum(errors), *errors])


class MagNet(NetworkDefence):
    """Reforms every image, and refuses those whose score of any of four detectors reaches its threshold.

    Detectors: mean absolute error of the autoencoder without pooling, mean squared error of the reformer, and
    the Jensen-Shannon divergence between the classifier's softmax(logits / T) before and behind the reformer,
    for T 10 and 40. Exact gradient of the reformer; refusing has none.
    """

    source: ClassVar[str] = "Meng & Chen 2017, arXiv:1705.09064"
    gradient: ClassVar[Gradient] = "exact"
    network_kind: ClassVar[type[TrainableNetwork]] = MagNetNetwork

    def __init__(self, network: MagNetNetwork, *, false_positives: float = 0.001) -> None:
        """Put the network in eval mode.

        Args:
            network: Trained.
            false_positives: The share of clean images that each detector may refuse.

        Raises:
            InputError: It is not between 0 and 1.
        """
        super().__init__()
        if not 0 <= false_positives < 1:
            raise InputError(f"magnet: false_positives is {false_positives}; it must be from 0 to below 1")
        self.network = network.eval()
        self.false_positives = false_positives
        self._thresholds: Tensor | None = None

    def defend(self, images: Tensor) -> Tensor:
        """Return reformed images."""
        return self.network.reform(images)

    def scores(self, images: Tensor, classifier: Classifier) -> Tensor:
        """The four detectors' scores of images in [0,1] (B, 3, H, W): (B, 4)."""
        reformed = self.network.reform(images)
        absolute = (self.network.detector(images) - images).abs().flatten(1).mean(1)
        squared = (reformed - images).square().flatten(1).mean(1)
        logits = classifier(images)
        behind = classifier(reformed)
        return torch.stack(
            [absolute, squared, *(divergence(logits / t, behind / t) for t in TEMPERATURES)], 1
        )

    @torch.no_grad()
    def calibrate(self, clean: Iterable[Tensor], classifier: Classifier) -> None:
        """Set each detector's threshold to a quantile of its scores of clean images (section 4.2).

        Args:
            clean: Batches of images in [0,1] (B, 3, H, W) that were not trained on. At least one is refused,
                so 1 / false_positives of them are needed to come down to that rate.
            classifier: Whose images are to be refused.
        """
        scores = torch.cat([self.scores(images, classifier) for images in clean])
        refused = max(1, int(self.false_positives * len(scores)))
        self._thresholds = scores.sort(0, descending=True).values[refused - 1]

    def rejects(self, images: Tensor, classifier: Classifier) -> Tensor:
        """Which images (B,) a detector refuses.

        Raises:
            InputError: `calibrate` has not been called.
        """
        if self._thresholds is None:
            raise InputError("magnet: its detectors have no thresholds yet; call calibrate first")
        return (self.scores(images, classifier) >= self._thresholds.to(images.device)).any(1)


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """Jensen-Shannon divergence (B,) of two batches of logits (B, classes) behind a softmax, in nats."""
    first, second = logits.log_softmax(1), others.log_softmax(1)
    middle = torch.logaddexp(first, second) - math.log(2)
    terms = [(log.exp() * (log - middle)).sum(1) for log in (first, second)]
    return (terms[0] + terms[1]) / 2


def _layer(channels: int, outputs: int) -> nn.Sequential:
    """A 3 x 3 convolution and a sigmoid; Glorot's initial weights, as Keras gives the authors' program."""
    convolution = nn.Conv2d(channels, outputs, 3, padding=1)
    nn.init.xavier_uniform_(convolution.weight)
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return nn.Sequential(convolution, nn.Sigmoid())
