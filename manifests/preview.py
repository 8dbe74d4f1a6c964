"""A contact sheet: clean, adversarial, perturbation ×8, predictions."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from impure.manifests.collection import Committed
from impure.manifests.errors import InputError
from impure.manifests.pixels import GAIN, amplify
from impure.manifests.samples import Sample, read_sample
from impure.manifests.storage import index_unit

# Pillow's own font has neither arrows nor infinity, hence ASCII captions.
_EDGE, _GAP, _TEXT = 8, 4, 34
Row = dict[str, Any]

_PAPER, _INK, _GOOD, _BAD = "#ffffff", "#1a1a1a", "#1b7f3b", "#b3261e"


def contact_sheet(units: Sequence[Committed], per_attack: int, names: Sequence[str] = ()) -> Image.Image:
    """Draw the first samples of every target and attack, one row each.

    Args:
        units: Committed units; the first of each target and attack is shown.
        per_attack: Samples in a row.
        names: Class names in label order, where they are known.

    Raises:
        InputError: There is nothing to show.
    """
    first = {(each.unit.target, each.unit.attack): each for each in reversed(units)}
    rows = [(committed, list(_samples(committed, per_attack))) for _, committed in sorted(first.items())]
    shown = [(committed, samples) for committed, samples in rows if samples]
    if not shown:
        raise InputError("no stored sample to show")
    side = min(max(144, max(s.clean.shape[1] for _, samples in shown for s, _ in samples)), 224)
    width = 2 * _EDGE + per_attack * (3 * side + 2 * _GAP) + (per_attack - 1) * 3 * _GAP
    sheet = Image.new("RGB", (width, 2 * _EDGE + len(shown) * (side + 2 * _TEXT)), _PAPER)
    for place, (committed, samples) in enumerate(shown):
        _draw_row(sheet, committed, samples, names, side, _EDGE + place * (side + 2 * _TEXT))
    return sheet


def _samples(committed: Committed, count: int) -> Iterator[tuple[Sample, Row]]:
    """The first samples of a unit with their rows of the manifest."""
    rows = {row["key"]: row for row in committed.stored_rows("key", "pred_adv", "success", "linf_255", "l2")}
    for index in islice(index_unit(committed), count):
        if index.key not in rows:
            raise InputError(f"{committed.tar}: sample {index.key!r} is not in its manifest; run verify")
        yield read_sample(index), rows[index.key]


def _draw_row(
    sheet: Image.Image,
    committed: Committed,
    samples: Sequence[tuple[Sample, Row]],
    names: Sequence[str],
    side: int,
    top: int,
) -> None:
    """Draw one attack's samples side by side, with captions."""
    pen = ImageDraw.Draw(sheet)
    heading, caption = ImageFont.load_default(16), ImageFont.load_default(12)
    unit, counts = committed.unit, committed.marker["counts"]
    title = (
        f"{unit.attack} on {unit.target}: fooled {counts['succeeded']} of {counts['stored']} in this shard"
    )
    pen.text((_EDGE, top), f"{title}    (clean | adversarial | perturbation x{GAIN})", _INK, heading)
    for place, (sample, row) in enumerate(samples):
        left = _EDGE + place * (3 * side + 5 * _GAP)
        for column, pixels in enumerate(
            (sample.clean, sample.adversarial, amplify(sample.adversarial, sample.clean))
        ):
            scaled = Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(scaled, (left + column * (side + _GAP), top + _TEXT // 2 + _GAP))
        below, success = top + side + _TEXT // 2 + 2 * _GAP, bool(row["success"])
        pen.text((left, below), _name(sample.label, names), _INK, caption)
        verdict = _name(row["pred_adv"], names)
        pen.text((left + side + _GAP, below), f"-> {verdict}", _BAD if success else _GOOD, caption)
        norms = f"Linf {row['linf_255']}/255  L2 {row['l2']:.2f}"
        pen.text((left + 2 * (side + _GAP), below), norms, _INK, caption)


def _name(label: int, names: Sequence[str]) -> str:
    """A class by its name where it is known, else by its number."""
    return names[label] if 0 <= label < len(names) else f"class {label}"
