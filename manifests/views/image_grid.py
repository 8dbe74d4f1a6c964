"""Sheets of pictures for people: rows with titles, a caption below each picture."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from impure.manifests.base.images import Pixels

PAPER, INK, GOOD, BAD = "#ffffff", "#1a1a1a", "#1b7f3b", "#b3261e"

_EDGE, _GAP, _TEXT = 8, 4, 34
_SIDES = (144, 224)  # least and most that a picture measures


class Picture(NamedTuple):
    """Pixels (H, W, 3) with what stands below them; Pillow's own font has neither arrows nor signs."""

    pixels: Pixels
    caption: str
    ink: str = INK


class Strip(NamedTuple):
    """One row of a sheet; its groups stand further apart than their pictures."""

    title: str
    groups: Sequence[Sequence[Picture]]


def draw_sheet(strips: Sequence[Strip]) -> Image.Image:
    """Draw strips, at least one, below each other."""
    widest = max(each.pixels.shape[1] for strip in strips for group in strip.groups for each in group)
    side = min(max(_SIDES[0], widest), _SIDES[1])
    width = max(_lefts(strip, side)[-1][-1] for strip in strips) + side + _EDGE
    sheet = Image.new("RGB", (width, 2 * _EDGE + len(strips) * (side + 2 * _TEXT)), PAPER)
    for place, strip in enumerate(strips):
        _draw_strip(sheet, strip, side, _EDGE + place * (side + 2 * _TEXT))
    return sheet


def _lefts(strip: Strip, side: int) -> list[list[int]]:
    """Left edge of every picture, by group."""
    found, left = [], _EDGE
    for group in strip.groups:
        found.append([left + place * (side + _GAP) for place in range(len(group))])
        left = found[-1][-1] + side + 3 * _GAP
    return found


def _draw_strip(sheet: Image.Image, strip: Strip, side: int, top: int) -> None:
    """Draw one row."""
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    pen.text((_EDGE, top), strip.title, INK, ImageFont.load_default(16))
    middle = top + _TEXT // 2 + _GAP
    for group, lefts in zip(strip.groups, _lefts(strip, side), strict=True):
        for picture, left in zip(group, lefts, strict=True):
            scaled = Image.fromarray(picture.pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(scaled, (left, middle))
            pen.text((left, middle + side + _GAP), picture.caption, picture.ink, font)
