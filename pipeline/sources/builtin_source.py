"""The built-in dataset as a source."""

import re

from PIL import Image

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import px_sha256
from impure.pipeline.builtin.drawing import CLASSES, SIZES, render
from impure.pipeline.sources.source import Photo, SourceImage
from impure.pipeline.sources.source_names import BUILTIN

_ID = re.compile(r"([^/]+)/([^/]+)/\1-\2-([0-9]{5})")


class BuiltinSource:
    """Drawn images of ten classes that need no download (see `impure.pipeline.builtin`)."""

    name = BUILTIN

    def images(self, split: str) -> list[SourceImage]:
        """Every drawn image of a split."""
        return [
            SourceImage(f"{split}/{name}/{split}-{name}-{index:05d}", name)
            for name in CLASSES
            for index in range(SIZES[split])
        ]

    def load(self, image: SourceImage, size: int) -> Photo:
        """Draw one image at `size` pixels a side."""
        match = _ID.fullmatch(image.source_id)
        if match is None:
            raise InputError(f"{image.source_id}: not one of the built-in dataset's images")
        split, name, index = match.groups()
        pixels = render(split, name, int(index), size)
        return Photo(Image.fromarray(pixels), px_sha256(pixels))
