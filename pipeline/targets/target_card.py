"""Target cards: everything about a classifier but its weights: name, architecture, classes, preprocessing."""

import math
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_origin

from impure.manifests.base.canonical_json import from_mapping
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
CROP_MODES = ("center", "squash", "border")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetCard:
    """A classifier on [0,1] images; `--target card.json` reads this.

    Attributes:
        name: Name in shards and tables.
        architecture: `timm:NAME` or `torchvision:NAME`.
        num_classes: Size of the head.
        wnids: Class ids in label order.
        input_size: Height = width in pixels that the network takes.
        resize: The shorter side is resized to this, in pixels (see `crop_mode`).
        crop: Then a centre crop of this, in pixels; equals `input_size`. Black pads what is smaller.
        interpolation: One of `INTERPOLATIONS`.
        antialias: Whether resizing low-pass filters first (Pillow's way).
        mean: Per-channel mean of RGB in [0,1] that the network expects to be subtracted.
        std: Per-channel standard deviation that it expects to be divided by.
        weights: Safetensors file beside the card; empty where the library knows the address.
        crop_mode: As timm has it. `center`: as above; `squash`: both sides are resized, whatever the shape;
            `border`: the longer side is, and `mean` pads the picture to a square.
    """

    name: str
    architecture: str
    num_classes: int
    wnids: tuple[str, ...]
    input_size: int
    resize: int
    crop: int
    interpolation: str
    antialias: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights: str = ""
    crop_mode: str = CROP_MODES[0]

    def __post_init__(self) -> None:
        problem = _first_problem(self)
        if problem:
            raise InputError(f"target {self.name!r}: {problem}")


def _first_problem(card: TargetCard) -> str | None:
    """The first value of a card that is impossible, in words, or None."""
    for field in fields(card):
        wanted = get_origin(field.type) or field.type
        if type(getattr(card, field.name)) is not wanted:
            kind = getattr(wanted, "__name__", wanted)
            return f"{field.name} must be {kind}, it is {getattr(card, field.name)!r}"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", card.name):
        return "name must be 1 to 32 of A-Z a-z 0-9 _ -, starting with a letter or digit"
    if len(card.wnids) != card.num_classes or len(set(card.wnids)) != len(card.wnids):
        return f"wnids must name num_classes = {card.num_classes} different classes"
    return _first_problem_of_preprocessing(card)


def _first_problem_of_preprocessing(card: TargetCard) -> str | None:
    """The first value that no picture can be prepared by, in words, or None."""
    if not 0 < card.crop <= 4096 or not 0 < card.resize <= 4096 or card.crop != card.input_size:
        return (
            f"crop {card.crop} must equal input_size {card.input_size}, and both it and resize {card.resize} "
            "be from 1 to 4096"
        )
    if card.interpolation not in INTERPOLATIONS:
        return f"interpolation {card.interpolation!r} is none of {', '.join(INTERPOLATIONS)}"
    if card.crop_mode not in CROP_MODES:
        return f"crop_mode {card.crop_mode!r} is none of {', '.join(CROP_MODES)}"
    if card.crop_mode == "border" and not card.antialias:
        return "crop_mode 'border' needs antialias"
    for name in ("mean", "std"):
        values = getattr(card, name)
        if len(values) != 3 or not all(
            isinstance(value, int | float) and math.isfinite(value) for value in values
        ):
            return f"{name} must hold three finite numbers, it is {values}"
    if min(card.std) <= 0:
        return f"std must be positive, it is {card.std}"
    return None


def read_card(path: Path) -> TargetCard:
    """Read a target card.

    Raises:
        InputError: The file is missing or no JSON, a field is unknown, missing or impossible.
    """
    return from_mapping(TargetCard, read_json(path), str(path))
