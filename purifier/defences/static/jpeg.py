"""JPEG compression (Dziugaite et al. 2016, arXiv:1608.00853)."""

import io

import numpy as np
from PIL import Image
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import Pixels
from impure.pipeline.tensors import to_float, to_pixels, to_tensor, to_uint8
from impure.purifier.defences.defence import Defence


class Jpeg(Defence):
    """Rounds to 8 bits, encodes as JPEG with Pillow's defaults, decodes again; has no gradient."""

    source = "Dziugaite et al. 2016, arXiv:1608.00853"
    gradient = "none"

    def __init__(self, *, quality: int = 75) -> None:
        """Set the quality.

        Raises:
            InputError: It is not between 1 and 95.
        """
        super().__init__()
        if not 1 <= quality <= 95:
            raise InputError(f"JPEG quality {quality} is not between 1 and 95")
        self.quality = quality

    def defend(self, images: Tensor) -> Tensor:
        """Return compressed and decoded images."""
        decoded = [self._compress(pixels) for pixels in to_pixels(to_uint8(images))]
        return to_float(to_tensor(decoded, images.device)).to(images.dtype)

    def _compress(self, pixels: Pixels) -> Pixels:
        """One image (H, W, 3) through the file format."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=self.quality)
        with Image.open(file, formats=["JPEG"]) as image:
            return np.array(image)
