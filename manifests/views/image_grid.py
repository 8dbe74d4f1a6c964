"""Sheets of pictures for people: rows with titles, a caption below each picture."""

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from impure.manifests.base.images import Pixels

BACKGROUND = "#ffffff"
TEXT = "#1a1a1a"
GOOD = "#1b7f3b"
BAD = "#b3261e"

# All in pixels.
_MARGIN = 8
_GAP = 4
_TEXT_HEIGHT = 38
_MIN_SIDE = 144  # of a picture as it is drawn
_MAX_SIDE = 224


class Picture(NamedTuple):
    """Pixels (H, W, 3) with what stands below them; Pillow's own font has neither arrows nor signs."""

    pixels: Pixels
    caption: str
    color: str = TEXT


class Strip(NamedTuple):
    """One row of a sheet; its groups stand further apart than their pictures."""

    title: str
    groups: Sequence[Sequence[Picture]]


def draw_sheet(strips: Sequence[Strip]) -> Image.Image:
    """Draw strips, at least one, below each other."""
    side = _picture_side(strips)
    height = side + 2 * _TEXT_HEIGHT
    width = max(_left_edges(strip, side)[-1][-1] for strip in strips) + side + _MARGIN
    sheet = Image.new("RGB", (width, 2 * _MARGIN + len(strips) * height), BACKGROUND)
    for position, strip in enumerate(strips):
        _draw_strip(sheet, strip, side, _MARGIN + position * height)
    return sheet


def _picture_side(strips: Sequence[Strip]) -> int:
    """Side on which all pictures are drawn: that of the widest, within bounds."""
    widths = [picture.pixels.shape[1] for strip in strips for group in strip.groups for picture in group]
    return int(min(max(_MIN_SIDE, *widths), _MAX_SIDE))


def _left_edges(strip: Strip, side: int) -> list[list[int]]:
    """Left edge of every picture, by group."""
    edges: list[list[int]] = []
    left = _MARGIN
    for group in strip.groups:
        edges.append([left + position * (side + _GAP) for position in range(len(group))])
        left = edges[-1][-1] + side + 3 * _GAP
    return edges


def _draw_strip(sheet: Image.Image, strip: Strip, side: int, top: int) -> None:
    """Draw one row."""
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    draw.text((_MARGIN, top), strip.title, TEXT, ImageFont.load_default(16))
    picture_top = top + _TEXT_HEIGHT // 2 + _GAP
    for group, edges in zip(strip.groups, _left_edges(strip, side), strict=True):
        for picture, left in zip(group, edges, strict=True):
            scaled = Image.fromarray(picture.pixels).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(scaled, (left, picture_top))
            draw.text((left, picture_top + side + _GAP), picture.caption, picture.color, font)
