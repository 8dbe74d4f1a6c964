"""One HTML page that needs nothing else: sections of tables, bars, pictures and checks."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2

from impure.manifests.base.images import Pixels, encode_png
from impure.manifests.base.tables import printable

COLOURS = 8  # of bars, in the page's style; further columns begin again
_HERE = Path(__file__).parent


class Cell(NamedTuple):
    """What stands in a table: text, smaller text below it, and the number to sort by where it is one."""

    text: str
    small: str = ""
    sort: float | None = None


def per_cent(share: float | None, small: str = "") -> Cell:
    """A share from 0 to 1 in per cent; a dash where there is none."""
    return Cell("–") if share is None else Cell(f"{100 * share:.1f}", small, share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that readers can sort.

    Attributes:
        caption: For those who cannot see it, and what is seen of it while it is folded.
        header: Names of columns.
        rows: Their cells.
        foot: What stays below.
        folded: Whether it is shown on demand alone; on paper always.
        note: What stands below it.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    foot: Sequence[Cell] = ()
    folded: bool = False
    note: str = ""

    def is_text(self, column: int) -> bool:
        """Whether a column holds no number at all."""
        return all(row[column].sort is None for row in self.rows)


class Bar(NamedTuple):
    """A share with its interval, all in per cent."""

    label: str
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Bars in groups from 0 to 100 per cent; those of one label have one colour."""

    labels: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Bar]]]

    def colour(self, label: str) -> int:
        """The number of a label's colour."""
        return self.labels.index(label) % COLOURS


class CheckLine(NamedTuple):
    """A check that passed or failed."""

    name: str
    passed: bool
    detail: str


class Picture(NamedTuple):
    """An image as an address that holds it, with what is said of it: `right` is None where nothing is."""

    caption: str
    uri: str
    prediction: str = ""
    right: bool | None = None


class StripOfPictures(NamedTuple):
    """One sample in all its forms."""

    title: str
    detail: str
    pictures: Sequence[Picture]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Part of a section: all that is said of one target, or of one defence before it."""

    title: str = ""
    warning: str = ""
    tables: Sequence[Table] = ()
    bars: Bars | None = None
    checks: Sequence[CheckLine] = ()
    strips_note: str = ""
    strips: Sequence[StripOfPictures] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What one document says.

    Attributes:
        title: In plain English.
        lead: How to read the numbers.
        notes: What has to stand beside them.
        blocks: The numbers.
        plots: Pictures of them, as wide as they are.
        conditions: What has to be known to believe them.
        where: The document's file.
    """

    title: str
    lead: str = ""
    notes: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    plots: Sequence[Picture] = ()
    conditions: Mapping[str, str]
    where: str = ""


def render(title: str, sections: Sequence[Section], complaints: Sequence[str] = ()) -> str:
    """The page.

    Whatever stands in the sections is text: it is escaped, and what would steer a reader's eyes is left out.
    The page's policy lets browsers load nothing and run nothing but what is here, by its hash.

    Args:
        title: Of the page.
        sections: In their order.
        complaints: What could not be shown, a line each.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        title=title,
        sections=sections,
        complaints=complaints,
        policy="default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src {_hash(style)}; script-src {_hash(script)}",
        style=style,
        script=script,
    )


def _printable(value: object) -> object:
    """Text that a stranger may have written, without direction marks and what is no Unicode."""
    return printable(value) if type(value) is str else value  # not of what is marked as safe


def _hash(text: str) -> str:
    """How a policy names what it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def png_uri(pixels: Pixels) -> str:
    """RGB pixels (H, W, 3) as a PNG inside an address."""
    return data_uri(encode_png(pixels), "image/png")


def data_uri(content: bytes, media_type: str) -> str:
    """A file inside an address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
