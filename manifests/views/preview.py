"""A contact sheet: clean, adversarial, perturbation ×8, predictions."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from PIL import Image

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import GAIN, amplify
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.samples import Sample, read_sample
from impure.manifests.collection.storage import index_pairs
from impure.manifests.views.image_grid import BAD, GOOD, Picture, Strip, draw_sheet

Row = dict[str, Any]


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
    first = {(each.shard_id.target, each.shard_id.attack): each for each in reversed(shards)}
    rows = [(committed, list(_samples(committed, per_attack))) for _, committed in sorted(first.items())]
    shown = [(committed, samples) for committed, samples in rows if samples]
    if not shown:
        raise InputError("no stored sample to show")
    return draw_sheet([_strip(committed, samples, names) for committed, samples in shown])


def _samples(committed: CommittedShard, count: int) -> Iterator[tuple[Sample, Row]]:
    """The first samples of a shard with their rows of the manifest."""
    rows = {row["key"]: row for row in committed.stored_rows("key", "pred_adv", "success", "linf_255", "l2")}
    for index in islice(index_pairs(committed), count):
        if index.key not in rows:
            raise InputError(f"{committed.tar}: sample {index.key!r} is not in its manifest; run verify")
        yield read_sample(index), rows[index.key]


def _strip(committed: CommittedShard, samples: Sequence[tuple[Sample, Row]], names: Sequence[str]) -> Strip:
    """One attack's samples side by side, with captions."""
    shard_id, counts = committed.shard_id, committed.marker["counts"]
    title = (
        f"{shard_id.attack} on {shard_id.target}: fooled {counts['succeeded']} of {counts['stored']} in this shard"
        f"    (clean | adversarial | perturbation x{GAIN})"
    )
    return Strip(title, [_pictures(sample, row, names) for sample, row in samples])


def _pictures(sample: Sample, row: Row, names: Sequence[str]) -> list[Picture]:
    """A sample's three pictures; captions are ASCII, as Pillow's own font has neither arrows nor infinity."""
    return [
        Picture(sample.clean, _name(sample.label, names)),
        Picture(
            sample.adversarial, f"-> {_name(row['pred_adv'], names)}", BAD if bool(row["success"]) else GOOD
        ),
        Picture(amplify(sample.adversarial, sample.clean), f"Linf {row['linf_255']}/255  L2 {row['l2']:.2f}"),
    ]


def _name(label: int, names: Sequence[str]) -> str:
    """A class by its name where it is known, else by its number."""
    return names[label] if 0 <= label < len(names) else f"class {label}"
