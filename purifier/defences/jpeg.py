"""JPEG compression (Dziugaite et al. 2016, arXiv:1608.00853)."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import Pixels
from impure.purifier.defences.defence import Defence


class Jpeg(Defence):
    """Rounds to 8 bits, encodes as JPEG with Pillow's defaults, decodes again; has no gradient."""

    def __init__(self, quality: int = 75) -> None:
        """Set the quality.

        Raises:
            InputError: It is not between 1 and 95.
        """
        super().__init__()
        if not 1 <= quality <= 95:
            raise InputError(f"JPEG quality {quality} is not between 1 and 95")
        self.quality = quality

    def forward(self, images: Tensor) -> Tensor:
        """Compressed and decoded images."""
        levels = (images.detach().clamp(0, 1) * 255).round().to("cpu", torch.uint8)
        decoded = [self._one(each) for each in levels.permute(0, 2, 3, 1).numpy()]
        return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(images) / 255

    def _one(self, pixels: Pixels) -> Pixels:
        """One image (H, W, 3) through the file format."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        with Image.open(file) as image:
            return np.array(image)
