"""The model card beside a checkpoint."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2

from impure.manifests.config import canonical_json
from impure.manifests.errors import InputError
from impure.manifests.layout import README
from impure.manifests.store import atomic_path, read_json
from impure.manifests.tables import markdown_table
from impure.purifier.checkpoint import CONFIG, read_config
from impure.purifier.convert import FREE, LICENSES, license_of
from impure.purifier.scores import Row
from impure.purifier.validation_table import NONE, PURIFIER

VALIDATION = "validation.csv"
COLUMNS = ("epoch", "target", "attack", "defence", "n", "correct")  # those that are read

LONGEST = 300  # characters in a cell of a table
_MARKDOWN = str.maketrans({each: f"\\{each}" for each in "\\`*_[]<>|~&#$:"})

Validation = dict[tuple[int, str], dict[tuple[str, str], Row]]
"""Epoch and defence -> target and attack -> row."""

_RELEASE = "https://github.com/NoWindButRain/IMPure"
_NOTES = {
    FREE: "Apache-2.0, like the code that trained them.",
    LICENSES[
        "mae"
    ]: "Training began from weights of MAE (He et al. 2022), which are published for non-commercial "
    "use only (CC BY-NC 4.0), and these weights are made from them.",
    LICENSES[
        "authors"
    ]: f"These weights are, or began from, those of the paper's release ({_RELEASE}), which "
    "states no licence: ask its authors before you hand them on.",
}


def write_card(run: Path, validation: Path | None = None) -> Path:
    """Write `README.md` beside a checkpoint; what others wrote into the folder cannot break its Markdown.

    Args:
        run: A folder with `config.json`; nothing else of it is read than that and the validation.
        validation: A table of accuracies that lies elsewhere (for `best/`: the run's); default: the folder's
            own `validation.csv` if there is one.

    Returns:
        The file.

    Raises:
        InputError: The config describes no RIAE, or names an unknown licence; the table cannot be read; or
            the folder cannot be written.
    """
    read_config(run)  # raises where it is none
    table = validation or run / VALIDATION
    found = read_validation(table) if validation or table.exists() else {}
    text = model_card(read_json(run / CONFIG), found)
    try:
        with atomic_path(run / README) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{run}: cannot be written ({error})") from error
    return run / README


def model_card(config: Mapping[str, Any], validation: Validation) -> str:
    """The card: YAML that Hugging Face reads, then Markdown for people.

    Args:
        config: What `config.json` holds; beside "riae" nothing needs to be there.
        validation: The rows of all validated epochs; may be empty.

    Raises:
        InputError: Its licence is unknown.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    license = license_of(config)
    parts = {name: config.get(name) for name in ("riae", "train", "data", "init", "software")}
    if init := parts["init"]:  # the names of hundreds of parameters would hide all else
        parts["init"] = {key: len(each) if isinstance(each, list) else each for key, each in init.items()}
    return environment.get_template("model_card.md.j2").render(
        license=license,
        licence_note=_NOTES[license],
        release=_RELEASE,
        mask=config["riae"].get("mask", "both"),
        tables={name: _settings(part) for name, part in parts.items() if isinstance(part, dict) and part},
        epoch=config["epoch"] if isinstance(config.get("epoch"), int) else None,
        accuracies=accuracy_table(validation),
    )


def read_validation(path: Path) -> Validation:
    """Read `validation.csv`.

    Raises:
        InputError: It cannot be read, lacks a column, or a row makes no sense.
    """
    found: Validation = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := set(COLUMNS) - set(reader.fieldnames or ()):
                raise InputError(f"{path}: has no column {', '.join(sorted(missing))}")
            for line in reader:
                epoch, row = _row(line, f"{path}, line {reader.line_num}")
                found.setdefault((epoch, row.defence), {})[row.target, row.attack] = row
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table ({error})") from error
    return found


def _row(line: Mapping[str, str | None], where: str) -> tuple[int, Row]:
    """A line as epoch and row; the counts tell the accuracy once more."""
    try:
        epoch, n, correct = (int(line[name] or "") for name in ("epoch", "n", "correct"))
        target, attack, defence = (line[name] or "" for name in ("target", "attack", "defence"))
        return epoch, Row(target=target, attack=attack, defence=defence, n=n, correct=correct)
    except (ValueError, InputError) as error:
        raise InputError(f"{where}: {error}") from error


def accuracy_table(validation: Validation) -> str:
    """The bare target, the last and the best epoch side by side, in Markdown; "" without any of a purifier.

    The best has the highest mean over targets and attacks, clean among them, each counted alike; of equals
    the first (as `validation_table.Score` has it).
    """
    epochs = sorted(epoch for epoch, defence in validation if defence == PURIFIER)
    if not epochs:
        return ""
    last, best = epochs[-1], max(epochs, key=lambda epoch: (_mean(validation[epoch, PURIFIER]), -epoch))
    bare = [rows for (_, defence), rows in validation.items() if defence == NONE]
    columns = {"unprotected": bare[0]} if bare else {}
    labels = {f"best: epoch {best}": best, f"last: epoch {last}": last}
    if best == last:
        labels = {f"best and last: epoch {last}": last}
    columns |= {label: validation[epoch, PURIFIER] for label, epoch in labels.items()}
    cells = [
        [*map(_cell, pair), row.n, *(_percent(rows.get(pair)) for rows in columns.values())]
        for pair, row in validation[last, PURIFIER].items()
    ]
    means = [f"{100 * _mean(rows):.2f} %" for rows in columns.values()]
    return markdown_table(["target", "attack", "n", *columns], [*cells, ["mean", "", "", *means]])


def _percent(row: Row | None) -> str:
    """An accuracy in percent; nothing where it was not measured."""
    return f"{100 * row.accuracy:.2f} %" if row else ""


def _mean(rows: Mapping[Any, Row]) -> float:
    """Mean accuracy."""
    return math.fsum(row.accuracy for row in rows.values()) / len(rows)


def _settings(values: Mapping[str, Any]) -> str:
    """A mapping as a table of two columns."""
    return markdown_table(["setting", "value"], [[_cell(key), _cell(value)] for key, value in values.items()])


def _cell(value: Any) -> str:
    """A value as text that cannot leave its cell, nor become markup, a link or HTML."""
    text = value if isinstance(value, str) else canonical_json(value)
    plain = "".join(each if each.isprintable() else " " for each in text)
    return (plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}…").translate(_MARKDOWN)
