"""Contact sheets of a collection: clean, adversarial, perturbation ×8, predictions."""

from collections.abc import Iterator, Sequence
from itertools import islice

from PIL import Image

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import GAIN, amplify
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.samples import Sample, read_sample
from impure.manifests.collection.schema import Row
from impure.manifests.collection.stored_pairs import index_pairs
from impure.manifests.views.image_grid import BAD, GOOD, Picture, Strip, draw_sheet

#: Columns of the manifest that captions are made of.
COLUMNS = ("key", "pred_adv", "success", "linf_255", "l2")

ShownSample = tuple[Sample, Row]
"""A sample and its row of the manifest."""


def contact_sheet(
    shards: Sequence[CommittedShard], per_attack: int, names: Sequence[str] = ()
) -> Image.Image:
    """Draw the first samples of every target and attack, one row each.

    Args:
        shards: Committed shards; the first of each target and attack is shown.
        per_attack: Samples in a row.
        names: Class names in label order, where they are known.

    Raises:
        InputError: There is nothing to show.
    """
    first_shards = {(shard.shard_id.target, shard.shard_id.attack): shard for shard in reversed(shards)}
    strips = []
    for _, shard in sorted(first_shards.items()):
        if samples := list(_first_samples(shard, per_attack)):
            strips.append(_strip(shard, samples, names))
    if not strips:
        raise InputError("no stored sample to show")
    return draw_sheet(strips)


def _first_samples(shard: CommittedShard, count: int) -> Iterator[ShownSample]:
    """The first samples of a shard with their rows of the manifest."""
    rows = {row["key"]: row for row in shard.stored_rows(*COLUMNS)}
    for index in islice(index_pairs(shard), count):
        if index.key not in rows:
            raise InputError(f"{shard.tar}: sample {index.key!r} is not in its manifest; run verify")
        yield read_sample(index), rows[index.key]


def _strip(shard: CommittedShard, samples: Sequence[ShownSample], names: Sequence[str]) -> Strip:
    """One attack's samples side by side, with captions."""
    counts = shard.marker["counts"]
    title = (
        f"{shard.shard_id.attack} on {shard.shard_id.target}: fooled {counts['succeeded']} of "
        f"{counts['stored']} in this shard    (clean | adversarial | perturbation x{GAIN})"
    )
    return Strip(title, [_pictures(sample, row, names) for sample, row in samples])


def _pictures(sample: Sample, row: Row, names: Sequence[str]) -> list[Picture]:
    """A sample's three pictures; captions are ASCII, as Pillow's own font has neither arrows nor infinity."""
    prediction = f"-> {_class_name(row['pred_adv'], names)}"
    norms = f"Linf {row['linf_255']}/255  L2 {row['l2']:.2f}"
    return [
        Picture(sample.clean, _class_name(sample.label, names)),
        Picture(sample.adversarial, prediction, BAD if row["success"] else GOOD),
        Picture(amplify(sample.adversarial, sample.clean), norms),
    ]


def _class_name(label: int, names: Sequence[str]) -> str:
    """A class by its name where it is known, else by its number."""
    return names[label] if 0 <= label < len(names) else f"class {label}"
