"""The choice of each class's images: tried in a given order until enough are classified correctly."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from impure.manifests.collection.schema import STATUS_OK, UNREADABLE, Row
from impure.pipeline.sources.source import SourceImage

Try = Callable[[Sequence[SourceImage]], Sequence[Row]]
"""Decodes and classifies a batch: a row for each image, `STATUS_OK`, `MISCLASSIFIED` or `UNREADABLE`."""

MISCLASSIFIED = "misclassified"
"""Status of an image that the target gets wrong; such rows are counted, not kept."""


@dataclass(slots=True)
class Tally:
    """What became of the images of one class.

    Attributes:
        wanted: Images to choose.
        chosen: Rows of the first so many that were classified correctly.
        unreadable: Rows of those that could not be decoded, before the last one chosen.
        misclassified: How many the target got wrong, before the last one chosen.
    """

    wanted: int
    chosen: list[Row] = field(default_factory=list)
    unreadable: list[Row] = field(default_factory=list)
    misclassified: int = 0

    @property
    def missing(self) -> int:
        """Images that are still to be chosen."""
        return self.wanted - len(self.chosen)

    def record(self, row: Row) -> bool:
        """Count the class's next image; True if it is chosen. What was tried in excess does not count."""
        if not self.missing:
            return False
        if row["status"] == STATUS_OK:
            self.chosen.append(row)
        elif row["status"] == UNREADABLE:
            self.unreadable.append(row)
        else:
            self.misclassified += 1
        return row["status"] == STATUS_OK


def choose(
    candidates: Mapping[str, Sequence[SourceImage]],
    wanted: int,
    batch_size: int,
    try_batch: Try,
    progress: Callable[[int], object],
) -> dict[str, Tally]:
    """Choose the first `wanted` correctly classified images of each class, as one pass over each would.

    Args:
        candidates: Each class's images, in the order in which they are tried.
        wanted: Images to choose of each class.
        batch_size: Images tried at once.
        try_batch: Decodes and classifies a batch.
        progress: Called with the number of images chosen, as they are chosen.
    """
    tallies = {wnid: Tally(wanted) for wnid in candidates}
    tried = dict.fromkeys(candidates, 0)
    while tries := _next_round(candidates, tallies, tried, batch_size):
        for start in range(0, len(tries), batch_size):
            batch = tries[start : start + batch_size]
            rows = try_batch(batch)
            progress(sum(tallies[image.wnid].record(row) for image, row in zip(batch, rows, strict=True)))
    return tallies


def _next_round(
    candidates: Mapping[str, Sequence[SourceImage]],
    tallies: Mapping[str, Tally],
    tried: dict[str, int],
    batch_size: int,
) -> list[SourceImage]:
    """The images to try next, of each class that is short and has images left; counts them as tried.

    A class gets as many as it is short of. Where few classes are left, that would be tiny batches: then it
    gets as many again as were tried, so far as they fit into one batch.
    """
    unfinished = [
        wnid for wnid, images in candidates.items() if tallies[wnid].missing and tried[wnid] < len(images)
    ]
    tries: list[SourceImage] = []
    for wnid in unfinished:
        count = max(tallies[wnid].missing, min(tried[wnid], batch_size // len(unfinished)))
        images = candidates[wnid][tried[wnid] : tried[wnid] + count]
        tried[wnid] += len(images)
        tries += images
    return tries
