"""The built-in dataset as a source."""

from PIL import Image

from impure.manifests.pixels import px_sha256
from impure.pipeline.builtin.images import CLASSES, SIZES, render
from impure.pipeline.sources.base import Photo, SourceImage

BUILTIN = "builtin"


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
        split, name, stem = image.source_id.split("/")
        pixels = render(split, name, int(stem.rsplit("-", 1)[1]), size)
        return Photo(Image.fromarray(pixels), px_sha256(pixels))
