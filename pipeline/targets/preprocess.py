"""From a decoded photograph to the pixels that a target sees."""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from timm.data.transforms import center_crop_or_pad
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import MAX_SIDE, Pixels
from impure.pipeline.sources.source import Source, SourceImage
from impure.pipeline.targets.target_card import TargetCard


def prepare(photo: Image.Image, card: TargetCard) -> Pixels:
    """Resize and crop the centre, as the target's card says.

    Args:
        photo: RGB picture of any size.
        card: The target's card.

    Returns:
        uint8 RGB pixels (crop, crop, 3): the clean image, as stored and as attacked.

    Raises:
        InputError: The picture is so long and thin that resizing it would take all memory.
    """
    if max(photo.size) * card.resize > MAX_SIDE * min(photo.size):
        raise InputError(f"{photo.width}x{photo.height} pixels are too long and thin to be resized")
    mode = InterpolationMode(card.interpolation)
    # Pillow always low-pass filters; only tensors can be resized without.
    picture = photo if card.antialias else TF.pil_to_tensor(photo)
    resized = TF.resize(picture, _resized_size(photo, card), mode, antialias=card.antialias)
    if card.crop_mode == "border":
        red, green, blue = (round(255 * value) for value in card.mean)
        return np.asarray(center_crop_or_pad(resized, [card.crop, card.crop], fill=(red, green, blue)))
    cropped = TF.center_crop(resized, [card.crop, card.crop])
    return np.asarray(cropped) if card.antialias else np.ascontiguousarray(cropped.permute(1, 2, 0).numpy())


def _resized_size(photo: Image.Image, card: TargetCard) -> list[int]:
    """Height and width to resize to, or the shorter side alone: as timm's evaluation transforms have them."""
    if card.crop_mode == "squash":
        return [card.resize, card.resize]
    if card.crop_mode == "border":
        ratio = max(photo.size) / card.resize
        return [max(round(photo.height / ratio), 1), max(round(photo.width / ratio), 1)]
    return [card.resize]


@dataclass(frozen=True, slots=True)
class CleanImage:
    """An image as a target sees it, or the reason why there is none.

    Attributes:
        image: Where it came from.
        pixels: uint8 (crop, crop, 3), or None where `error` says why.
        source_sha256: SHA-256 of the file's bytes; empty where there are no pixels.
        error: The reason; empty when there are pixels.
    """

    image: SourceImage
    pixels: Pixels | None
    source_sha256: str
    error: str


def load_clean(source: Source, image: SourceImage, card: TargetCard) -> CleanImage:
    """Read, decode and prepare one image; what is wrong with it becomes `error`."""
    try:
        photo = source.load(image, card.resize)
        return CleanImage(image, prepare(photo.picture, card), photo.sha256, "")
    except InputError as error:
        return CleanImage(image, None, "", str(error))
