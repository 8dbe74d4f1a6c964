"""Figure 6: images of each attack and where the classifier looks in them, clean, adversarial, purified."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from impure.manifests.base.tables import markdown_table
from impure.purifier.evaluation.figures.map_likeness import FORMS, Likeness, Shown
from impure.purifier.evaluation.figures.plot_style import figure
from impure.purifier.evaluation.image_strips import LONGEST, class_name, to_pixels
from impure.purifier.evaluation.select import line_names

RIGHT, WRONG = "#2a8c5a", "#d04a40"  # readable on both grounds
_COLOURS = "turbo"
_OPACITY = 0.5  # of a map over its image
_SIDE, _CAPTION = 1.5, 0.22  # inches


def likeness_table(rows: Sequence[Likeness]) -> str:
    """Correlations and accuracies, a line for each attack and form; Markdown."""
    names = line_names((row.target, row.attack) for row in rows)
    lines = [
        [
            names[row.target, row.attack],
            row.form,
            str(row.n),
            f"{100 * row.correct / row.n:.1f}",
            f"{row.mean:.3f} ± {row.deviation:.3f}",
        ]
        for row in rows
    ]
    return markdown_table(["attack", "image", "n", "accuracy, %", "correlation with clean"], lines)


def grad_cam_plot(shown: Sequence[Shown], names: Sequence[str] = ()) -> Figure:
    """Draw a line for each sample: its three forms, then the same below their maps.

    Args:
        shown: At least one sample.
        names: Class names in label order, where they are known.
    """
    columns = 2 * len(FORMS)
    drawn = figure(_SIDE * columns, (_SIDE + _CAPTION) * len(shown) + 0.3)
    panels = drawn.subplots(len(shown), columns, squeeze=False)
    for line, sample in zip(panels, shown, strict=True):
        line[0].set_ylabel(sample.attack, fontsize=9)
        for place, form in enumerate(FORMS):
            image = to_pixels(sample.images[form])
            heat = sample.maps[form].numpy()
            right = sample.predictions[form] == sample.label
            caption = class_name(sample.predictions[form], names)[:LONGEST]
            _draw_image(line[place], image, caption, RIGHT if right else WRONG)
            _draw_image(line[len(FORMS) + place], overlaid(image, heat))
    for axes, form in zip(panels[0], [*FORMS, *(f"{form}: map" for form in FORMS)], strict=True):
        axes.set_title(form, fontsize=9)
    return drawn


def overlaid(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A map (H, W), from 0 to 1, in colours over its image (H, W, 3) in grey."""
    colours = 255 * mpl.colormaps[_COLOURS](heat)[..., :3]
    grey = image.mean(2, keepdims=True)
    mixed: NDArray[np.uint8] = ((1 - _OPACITY) * grey + _OPACITY * colours).round().astype(np.uint8)
    return mixed


def _draw_image(axes: Axes, image: NDArray[np.uint8], caption: str = "", colour: str | None = None) -> None:
    """An image without a frame, and what is predicted for it."""
    axes.imshow(image, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if caption:
        axes.set_xlabel(caption, fontsize=8, color=colour, labelpad=2, parse_math=False)
