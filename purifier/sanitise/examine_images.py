"""Examines the images of a folder, batch by batch, and keeps what it found out: interrupted, it goes on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from impure.manifests.base.files import atomic_path, read_json, write_json, writing
from impure.manifests.base.images import encode_png
from impure.pipeline.sources.source import Source, SourceImage
from impure.pipeline.targets.preprocess import CleanImage, load_clean
from impure.pipeline.targets.target import Target
from impure.pipeline.tensors import to_float, to_tensor
from impure.purifier.defences.base.defence import Defence
from impure.purifier.sanitise.purification_rounds import ImageRounds, flips, purification_rounds
from impure.purifier.sanitise.sanitise_config import SanitiseConfig


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found out about an image.

    Attributes:
        source_id: Its path below the image root.
        wnid: Its class.
        labels: The target's label of it, and after each round; none where it cannot be read.
        chosen: The round whose image would be kept, or 0; see `ImageRounds`.
        error: Why it cannot be read, or nothing.
    """

    source_id: str
    wnid: str
    labels: tuple[int, ...]
    chosen: int
    error: str

    @property
    def flips(self) -> int:
        """How many rounds give another label than the image had."""
        return flips(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examiner:
    """Purifies images in rounds.

    Attributes:
        source: Where they are from.
        defence: The purifier.
        target: The classifier whose labels are followed.
        config: Settings.
        work: Folder of what is known so far.
    """

    source: Source
    defence: Defence
    target: Target
    config: SanitiseConfig
    work: Path

    def examine(self, images: Sequence[SourceImage], advance: Callable[[int], object]) -> Iterator[Examined]:
        """Examine images in order; those of batches that an earlier call finished are read from the disk.

        Raises:
            WriteError: `work` cannot be written.
        """
        for start in range(0, len(images), self.config.batch_size):
            path = self.work / f"{start:09d}.json"
            batch = images[start : start + self.config.batch_size]
            if not path.is_file():
                with writing(path):
                    write_json(path, {"rows": self._examine(batch, start)})
            for row in read_json(path)["rows"]:
                yield Examined(row[0], row[1], tuple(row[2]), row[3], row[4])
            advance(len(batch))

    def candidate(self, index: int) -> Path:
        """File of the purified image that would be kept of the image with an index."""
        return self.work / f"{index:09d}.png"

    def _examine(self, images: Sequence[SourceImage], start: int) -> list[tuple[object, ...]]:
        """Fields of `Examined` for a batch; the images that might be kept are written."""
        loaded = [load_clean(self.source, image, self.target.card) for image in images]
        results = iter(self._rounds([clean for clean in loaded if not clean.error]))
        rows: list[tuple[object, ...]] = []
        for index, clean in enumerate(loaded, start):
            result = ImageRounds((), 0, None) if clean.error else next(results)
            if result.pixels is not None and flips(result.labels) > self.config.flips:
                with atomic_path(self.candidate(index)) as temporary:
                    temporary.write_bytes(encode_png(result.pixels))
            rows.append((clean.image.source_id, clean.image.wnid, result.labels, result.chosen, clean.error))
        return rows

    def _rounds(self, readable: Sequence[CleanImage]) -> list[ImageRounds]:
        """The rounds of those images that could be read."""
        pixels = [clean.pixels for clean in readable if clean.pixels is not None]
        if not pixels:
            return []
        images = to_float(to_tensor(pixels, self.target.mean.device))
        return purification_rounds(self.defence, self.target, images, self.config)
