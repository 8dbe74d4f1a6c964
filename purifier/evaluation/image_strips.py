"""Image strips for people: what an attack did to an image, what a defence made of it, and the predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.images import GAIN, Pixels, amplify
from impure.manifests.collection.shard_id import CLEAN, stem_of
from impure.manifests.views.image_grid import BAD, GOOD, Picture, Strip, draw_sheet
from impure.pipeline.tensors import to_uint8
from impure.purifier.data.pairs import Pair
from impure.purifier.evaluation.predict import NO_CLASS

LONGEST = 24  # characters of a caption's line: more would run into the next
_UNDEFENDED = ("clean", "adversarial")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sample: images (H, W, 3), and the class predicted for each."""

    target: str
    attack: str
    key: str
    label: int
    images: Mapping[str, Pixels]  # "clean", "adversarial", and each defence but `none`
    predictions: Mapping[str, int]
    note: str = ""  # for the title of its strip


class Panel(NamedTuple):
    """One picture of a strip; differences are around grey, `GAIN` times as large, and have no prediction."""

    caption: str
    pixels: Pixels
    prediction: int | None


def example(
    target: str,
    attack: str,
    pair: Pair,
    images: Mapping[str, Tensor],
    predictions: Mapping[str, Tensor],
    note: str = "",
) -> Example:
    """The first image of a batch in all its forms.

    Args:
        target: Of the sample.
        attack: Of the sample.
        pair: The sample.
        images: RGB in [0,1] (B, 3, H, W) by name.
        predictions: Predicted classes (B,) by the same names.
        note: For the title of its strip.
    """
    return Example(
        target=target,
        attack=attack,
        key=pair.key,
        label=pair.label,
        images={name: to_pixels(batch[0]) for name, batch in images.items()},
        predictions={name: int(predictions[name][0]) for name in images},
        note=note,
    )


def to_pixels(image: Tensor) -> Pixels:
    """RGB in [0,1] (3, H, W) as 8-bit pixels (H, W, 3); what is no number is black."""
    pixels: Pixels = to_uint8(image.nan_to_num(0)).permute(1, 2, 0).cpu().numpy()
    return pixels


def panels(shown: Example) -> list[Panel]:
    """The pictures of a strip from left to right; of a clean image the attack's are left out."""
    images = shown.images
    predictions = shown.predictions
    strip = [Panel("clean", images["clean"], predictions["clean"])]
    if shown.attack != CLEAN:
        strip.append(Panel("adversarial", images["adversarial"], predictions["adversarial"]))
        strip.append(Panel(f"perturbation ×{GAIN}", amplify(images["adversarial"], images["clean"]), None))
    for name in (name for name in images if name not in _UNDEFENDED):
        strip.append(Panel(name, images[name], predictions[name]))
        if images[name].shape == images["clean"].shape:  # some defences enlarge
            strip.append(Panel(f"{name}: residual ×{GAIN}", amplify(images[name], images["clean"]), None))
    return strip


def class_name(label: int, names: Sequence[str]) -> str:
    """A class's name where it is known, else its number."""
    if label == NO_CLASS:
        return "not finite"
    return names[label] if 0 <= label < len(names) else str(label)


def draw_strips(shown: Sequence[Example], names: Sequence[str] = ()) -> Image.Image:
    """Draw examples below each other, one row each.

    Args:
        shown: The examples.
        names: Class names in label order, where they are known.

    Raises:
        InputError: There is nothing to draw.
    """
    if not shown:
        raise InputError("no example to draw")
    return draw_sheet([_strip(example, names) for example in shown])


def _strip(shown: Example, names: Sequence[str]) -> Strip:
    """One example: the pictures side by side, and below each what it is and the prediction."""
    title = f"{shown.attack} on {shown.target}: {stem_of(shown.key)} ({class_name(shown.label, names)})"
    title += f"; {shown.note}" if shown.note else ""
    return Strip(title, [[_picture(panel, shown.label, names) for panel in panels(shown)]])


def _picture(panel: Panel, label: int, names: Sequence[str]) -> Picture:
    """A panel as it is drawn."""
    lines = panel.caption.replace("×", "x").split(": ")  # Pillow's own font lacks the sign
    if panel.prediction is None:
        return Picture(panel.pixels, _fitting(lines))
    lines.append(class_name(panel.prediction, names))
    return Picture(panel.pixels, _fitting(lines), GOOD if panel.prediction == label else BAD)


def _fitting(lines: Sequence[str]) -> str:
    """A caption of some lines; a long one keeps its end, by which defences differ."""
    return "\n".join(line if len(line) <= LONGEST else f"..{line[2 - LONGEST :]}" for line in lines)
