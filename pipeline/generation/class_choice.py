"""The choice of each class's images: tried in a given order until enough are classified correctly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from impure.manifests.collection.schema import STATUS_OK, UNREADABLE, Row
from impure.manifests.commands.console import say
from impure.pipeline.sources.source import SourceImage

Finish = Callable[[], Sequence[Row]]
"""Classifies a batch once it is decoded: rows with `STATUS_OK`, `MISCLASSIFIED` or `UNREADABLE`."""

Begin = Callable[[Sequence[SourceImage]], Finish]
"""Begins to decode a batch, and does not wait for it."""

MISCLASSIFIED = "misclassified"
"""Status of an image that the target gets wrong; such rows are counted, not kept."""


ENOUGH_TRIED = 100
"""Images after which a target near chance is told from one that is bad."""


@dataclass(slots=True)
class Tally:
    """What became of the images of one class.

    Attributes:
        wanted: Images to choose.
        chosen: Rows of the first so many that were classified correctly.
        unreadable: Rows of those that could not be decoded, before the last one chosen.
        misclassified: How many the target got wrong, before the last one chosen.
        tried: How many have been taken to be tried.
        known: Of how many of these it is known what became of them.
    """

    wanted: int
    chosen: list[Row] = field(default_factory=list)
    unreadable: list[Row] = field(default_factory=list)
    misclassified: int = 0
    tried: int = 0
    known: int = 0

    @property
    def missing(self) -> int:
        """Images that are still to be chosen."""
        return self.wanted - len(self.chosen)

    @property
    def short(self) -> int:
        """Images that will be missing if all that are being tried come out right."""
        return self.missing - (self.tried - self.known)

    def take(self, images: Sequence[SourceImage], count: int) -> Sequence[SourceImage]:
        """Take the class's next images to try them; fewer than `count` where there are no more."""
        taken = images[self.tried : self.tried + count]
        self.tried += len(taken)
        return taken

    def record(self, row: Row) -> bool:
        """Count the class's next image; True if it is chosen. What was tried in excess does not count."""
        self.known += 1
        if not self.missing:
            return False
        if row["status"] == STATUS_OK:
            self.chosen.append(row)
        elif row["status"] == UNREADABLE:
            self.unreadable.append(row)
        else:
            self.misclassified += 1
        return row["status"] == STATUS_OK


class Accuracy:
    """Says once, as soon as it shows, that a target is hardly better than chance.

    Args:
        target: Its name.
        classes: That it knows.
    """

    def __init__(self, target: str, classes: int) -> None:
        self._target = target
        self._classes = classes
        self._tried = 0
        self._right = 0
        self._told = False

    def watch(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Count what became of images, and hand it on."""
        self._tried += sum(row["status"] != UNREADABLE for row in rows)
        self._right += sum(row["status"] == STATUS_OK for row in rows)
        if self._tried >= ENOUGH_TRIED and not self._told:
            self._told = True
            self._tell()
        return rows

    def _tell(self) -> None:
        """Warn below a tenth of the way from chance to certainty."""
        chance = 1 / self._classes
        if self._right < self._tried * (chance + (1 - chance) / 10):
            say(
                f"Target {self._target!r} tried {self._tried} images and got {self._right} right, hardly "
                f"more than by chance (1 in {self._classes}): check its weights, its card and the labels."
            )


def choose(
    candidates: Mapping[str, Sequence[SourceImage]],
    wanted: int,
    batch_size: int,
    begin: Begin,
    progress: Callable[[int], object],
) -> dict[str, Tally]:
    """Choose the first `wanted` correctly classified images of each class, as one pass over each would.

    Args:
        candidates: Each class's images, in the order in which they are tried.
        wanted: Images to choose of each class.
        batch_size: Images tried at once.
        begin: Begins to decode a batch; the one before is classified meanwhile.
        progress: Called with the number of images chosen, as they are chosen.
    """
    tallies = {wnid: Tally(wanted) for wnid in candidates}
    classes = [(images, tallies[wnid]) for wnid, images in candidates.items()]
    ahead: tuple[list[SourceImage], Finish] | None = None
    while (batch := _next_batch(classes, batch_size)) or ahead:
        begun = (batch, begin(batch)) if batch else None
        if ahead:
            images, finish = ahead
            rows = zip(images, finish(), strict=True)
            progress(sum(tallies[image.wnid].record(row) for image, row in rows))
        ahead = begun
    return tallies


def _next_batch(classes: Sequence[tuple[Sequence[SourceImage], Tally]], batch_size: int) -> list[SourceImage]:
    """The images to try next: of each class as many as it will be short of if all that are tried are right.

    A batch that this does not fill waits until all that are tried are known. Then it gets more of the classes
    that have been found short, in equal shares: else the last of each class would be tried a few at a time.
    """
    short = [(images, tally) for images, tally in classes if tally.short > 0 and tally.tried < len(images)]
    needed = sum(min(tally.short, len(images) - tally.tried) for images, tally in short)
    if needed < batch_size and any(tally.tried > tally.known for _, tally in classes):
        return []
    batch: list[SourceImage] = []
    for images, tally in short:
        batch += tally.take(images, min(tally.short, batch_size - len(batch)))
    found_short = [(images, tally) for images, tally in short if tally.known]
    for place, (images, tally) in enumerate(found_short):
        batch += tally.take(images, (batch_size - len(batch)) // (len(found_short) - place))
    return batch
