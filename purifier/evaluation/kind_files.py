"""What one command of impure-eval measured, in files: KIND.json, KIND.md, KIND.csv and its plots."""

import csv
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impure.manifests.base.files import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured, and what has to be known to read it."""

    kind: str  # the command's name
    title: str
    notes: Sequence[str]  # paragraphs above the table
    table: str  # Markdown
    rows: Sequence[Mapping[str, object]]  # at least one, all with the same keys: the lines of the CSV
    conditions: Mapping[str, object]
    further: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=dict)  # tables by name

    def document(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        tables = {name: list(map(dict, rows)) for name, rows in {"rows": self.rows, **self.further}.items()}
        said = {"title": self.title, "notes": list(self.notes)}
        return {"kind": self.kind, **said, "conditions": dict(self.conditions), **tables}

    def markdown(self, plots: Sequence[str] = ()) -> str:
        """A page with the table, plots that lie beside it, and the conditions."""
        pictures = [f"![{plot}]({plot}.svg)" for plot in plots]
        conditions = "\n".join(f"- {name}: {text}" for name, text in as_texts(self.conditions).items())
        return "\n\n".join([f"# {self.title}", *self.notes, self.table, *pictures, conditions]) + "\n"

    def tables(self) -> dict[str, str]:
        """KIND.csv, with a line for each row, and KIND-NAME.csv of each further table that has any."""
        further = {f"{self.kind}-{name}.csv": csv_text(rows) for name, rows in self.further.items() if rows}
        return {f"{self.kind}.csv": csv_text(self.rows), **further}


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows, at least one, all with the same keys, below these as a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_measured(measured: Measured, out: Path, plots: Mapping[str, "Figure"] | None = None) -> list[Path]:
    """Write a measurement into a folder that holds none of its kind.

    Args:
        measured: What was measured.
        out: The folder, made if it is missing; where it holds one of this kind, its name gets a number.
        plots: Figures by the end of their names: `pgd` becomes KIND-pgd.svg and KIND-pgd.png.

    Returns:
        The files.

    Raises:
        WriteError: The folder cannot be written.
    """
    kind = measured.kind
    figures = {f"{kind}-{name}": figure for name, figure in (plots or {}).items()}
    texts = {
        f"{kind}.json": json.dumps(measured.document(), indent=1, allow_nan=False) + "\n",
        f"{kind}.md": measured.markdown(list(figures)),
        **measured.tables(),
    }
    out = unused_folder(out, kind)
    return [*(write_text(out / name, text) for name, text in texts.items()), *_save(figures, out)]


def _save(figures: Mapping[str, "Figure"], out: Path) -> list[Path]:
    """Write plots, for which alone matplotlib is imported."""
    if not figures:
        return []
    from impure.purifier.evaluation.figures.plot_style import save

    return [path for stem, figure in figures.items() for path in save(figure, out, stem)]


def unused_folder(out: Path, stem: str) -> Path:
    """The folder itself, or the first of NAME-2, NAME-3, … that holds no `stem.*`: no report is ever lost."""
    out = out if out.name else out.absolute()  # the working folder has no name to put a number behind
    numbered = (out.with_name(f"{out.name}-{number}") for number in itertools.count(2))
    return next(folder for folder in itertools.chain([out], numbered) if not any(folder.glob(f"{stem}.*")))


def unused_file(path: Path) -> Path:
    """The path itself, or the first of NAME-2, NAME-3, … that is not there yet."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(free for free in itertools.chain([path], numbered) if not free.exists())


def as_texts(conditions: Mapping[str, object]) -> dict[str, str]:
    """Conditions as people read them."""
    return {
        name.replace("_", " "): ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for name, value in conditions.items()
    }
