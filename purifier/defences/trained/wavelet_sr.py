"""Wavelet denoising, then super-resolution (Mustafa et al. 2019, arXiv:1901.01677)."""

from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.defence import Gradient
from impure.purifier.defences.static.jpeg import Jpeg
from impure.purifier.defences.static.wavelet_denoising import denoise
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.trainable import TrainableNetwork
from impure.purifier.defences.trained.base.trained_weights import is_bare_file
from impure.purifier.defences.trained.edsr import EDSR
from impure.purifier.defences.trained.upscaler_files import load_upscaler


class WaveletSR(NetworkDefence):
    """Denoises an image in the wavelet domain, and doubles its sides with EDSR; the classifier sees those.

    As in the paper, where Inception-v3 was shown 598 pixels; classifiers of one size alone need `back`. The
    gradient of the denoising is straight-through, that of the network exact.
    """

    source: ClassVar[str] = "Mustafa et al. 2019, arXiv:1901.01677"
    gradient: ClassVar[Gradient] = "straight-through"
    keeps_size: ClassVar[bool] = False
    extra: ClassVar[str] = "defences"
    network_kind: ClassVar[type[TrainableNetwork]] = EDSR

    def __init__(
        self, network: nn.Module, *, sigma: float = 0.01, jpeg: bool = False, back: bool = False
    ) -> None:
        """Put the network in eval mode.

        Args:
            network: Doubles RGB images in [0,1].
            sigma: Standard deviation of the noise for the wavelets, the paper's; the authors' program has
                0.04.
            jpeg: Save the denoised image as JPEG of quality 75, as the authors' program does between its two
                steps: a defence by itself.
            back: Resize the doubled image to the size of the given one, bilinear with antialias.

        Raises:
            InputError: `sigma` is negative.
        """
        super().__init__()
        if sigma < 0:
            raise InputError(f"wavelet-sr: sigma is {sigma}; it must not be negative")
        self.network = network.eval()
        self.sigma = sigma
        self.back = back
        self.jpeg = Jpeg() if jpeg else None

    @classmethod
    def load(cls, weights: str) -> nn.Module:
        """Read a run of impure-train, or a file with a network that others published (see `load_upscaler`).

        Raises:
            InputError: It is neither, or cannot be read.
        """
        if is_bare_file(weights):
            return load_upscaler(Path(weights))
        return super().load(weights)

    def defend(self, images: Tensor) -> Tensor:
        """Return denoised images of twice the sides, or of the same with `back`."""
        denoised = denoise(images, self.sigma)
        if self.jpeg is not None:
            denoised = self.jpeg(denoised)
        doubled: Tensor = self.network(denoised)
        doubled = doubled.clamp(0, 1)
        if not self.back:
            return doubled
        size = images.shape[2:]
        return F.interpolate(doubled, size=size, mode="bilinear", antialias=True).clamp(0, 1)
