"""The style of all plots: for light and dark pages, and the same bytes for the same figure.

matplotlib's objects are used without pyplot, which would keep every figure in a global list.
"""

import io
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from impure.manifests.base.files import atomic_path, writing

COLOURS = ("#8a94a0", "#c98a2b", "#2f6fb3", "#7b4fb0", "#2a8c7c", "#b34a76", "#6b7d2a", "#a5562f")
"""Of bars and curves, the report's; the first, grey, is for what has no defence."""

INK = "#767b82"
"""Of text and axes: readable on white (4.2 : 1) and on the pages' dark ground (4.2 : 1)."""

PNG_DPI = 150
_MATPLOTLIB_TEXT = "black"


def colour(index: int) -> str:
    """The colour of a plot's bar or curve by its place; further ones begin again."""
    return COLOURS[index % len(COLOURS)]


def figure(width: float, height: float) -> Figure:
    """An empty figure.

    Args:
        width: In inches of 72 points; 7 fills a page's column.
        height: In inches.
    """
    return Figure(figsize=(width, height), layout="constrained")


def svg(drawn: Figure) -> str:
    """A figure as an SVG element, for a page or a file; its text stays text."""
    _restyle(drawn)
    file = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "impure"}):
        unsaid = dict.fromkeys(["Creator", "Date", "Format", "Type"])
        drawn.savefig(file, format="svg", transparent=True, metadata=unsaid)
    text = file.getvalue()
    return text[text.index("<svg") :]


def png(drawn: Figure) -> bytes:
    """A figure as PNG on a transparent ground."""
    _restyle(drawn)
    file = io.BytesIO()
    drawn.savefig(file, format="png", transparent=True, dpi=PNG_DPI, metadata={"Software": None})
    return file.getvalue()


def save(drawn: Figure, folder: Path, stem: str) -> list[Path]:
    """Write `stem.svg` and `stem.png`.

    Args:
        drawn: The figure.
        folder: Where, made if it is missing.
        stem: The files' name.

    Returns:
        The files.

    Raises:
        WriteError: The folder cannot be written.
    """
    contents = {f"{stem}.svg": svg(drawn).encode(), f"{stem}.png": png(drawn)}
    with writing(folder):
        for name, content in contents.items():
            with atomic_path(folder / name) as temporary:
                temporary.write_bytes(content)
    return [folder / name for name in contents]


def _restyle(drawn: Figure) -> None:
    """Give text and axes the ink of both grounds, except what was coloured on purpose."""
    for axes in drawn.axes:
        axes.tick_params(which="both", color=INK, labelcolor=INK)
        axes.spines[:].set_color(INK)
        axes.spines[["top", "right"]].set_visible(False)
    for legend in drawn.findobj(Legend):
        if isinstance(legend, Legend):
            legend.set_frame_on(False)  # its ground is white
    for text in drawn.findobj(Text):
        if isinstance(text, Text) and text.get_color() == _MATPLOTLIB_TEXT:
            text.set_color(INK)
