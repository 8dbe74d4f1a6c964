"""Writes the model card beside a checkpoint: what people and the Hugging Face Hub read of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.files import read_json, write_text
from impure.manifests.base.markdown_template import render_markdown
from impure.manifests.base.tables import markdown_table
from impure.manifests.collection.layout import README
from impure.purifier.checkpoints.checkpoint import BEST
from impure.purifier.checkpoints.init_weights import LICENSES, OUR_LICENSE, license_of
from impure.purifier.defences.open_checkpoint import checkpoint_kind
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.validation_table import (
    ADAPTIVE,
    FILE,
    NONE,
    RowsByEpoch,
    Score,
    best,
    read_rows,
    trained_rows,
)
from impure.purifier.riae.pretrained import CONFIG, read_config

LONGEST = 300  # characters in a cell of a table
_MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]<>|~&#$:"})

_RELEASE = "https://github.com/NoWindButRain/IMPure"
_NOTES = {
    OUR_LICENSE: "Apache-2.0, like the code that trained them.",
    LICENSES[
        "mae"
    ]: "Training began from weights of MAE (He et al. 2022), which are published for non-commercial "
    "use only (CC BY-NC 4.0), and these weights are made from them.",
    LICENSES[
        "release"
    ]: f"These weights are, or began from, those of the paper's release ({_RELEASE}), which "
    "states no licence: ask its authors before you hand them on.",
}


def write_card(run: Path) -> Path:
    """Write `README.md` beside a checkpoint; what others wrote into the folder cannot break its Markdown.

    Args:
        run: A folder with `config.json`; nothing else of it is read than that and its `validation.csv`, if it
            has one. For a run's best weights, in its folder `best`, the run's is read.

    Returns:
        The file.

    Raises:
        InputError: The config describes no known network, or names an unknown licence; the table cannot be
            read; or the folder cannot be written.
    """
    kind = checkpoint_kind(run)
    if kind is None:
        read_config(run)  # raises where it is no RIAE
    table = _table(run)
    text = model_card(read_json(run / CONFIG), read_rows(table) if table.exists() else {}, kind)
    return write_text(run / README, text)


def _table(run: Path) -> Path:
    """Where a checkpoint's validation is, if anywhere."""
    outer = run.resolve().parent / FILE
    return outer if run.resolve().name == BEST and outer.exists() else run / FILE


def model_card(
    config: Mapping[str, Any], validation: RowsByEpoch, kind: type[NetworkDefence] | None = None
) -> str:
    """The card: YAML that Hugging Face reads, then Markdown for people.

    Args:
        config: What `config.json` holds; beside "riae" or "network" nothing needs to be there.
        validation: The rows of all validated epochs; may be empty.
        kind: The defence whose network it is; None for RIAE.

    Raises:
        InputError: Its licence is unknown, or the rows cannot be compared.
    """
    license = license_of(config)
    parts = {
        name: config.get(name) for name in ("riae", "network", "targets", "train", "data", "init", "software")
    }
    if init := parts["init"]:  # the names of hundreds of parameters would hide all else
        parts["init"] = {key: len(item) if isinstance(item, list) else item for key, item in init.items()}
    values = {
        "license": license,
        "licence_note": _NOTES[license],
        "release": _RELEASE,
        "network": kind.network_kind.name if kind else None,
        "source": kind.source if kind else None,
        "mask": None if kind else config["riae"].get("mask", "both"),
        "tables": {name: _settings(part) for name, part in parts.items() if isinstance(part, dict) and part},
        "epoch": config["epoch"] if isinstance(config.get("epoch"), int) else None,
        "accuracies": accuracy_table(validation),
        "adaptive": any(row.attack.startswith(ADAPTIVE) for rows in validation.values() for row in rows),
    }
    return render_markdown(Path(__file__).with_name("model_card.md.j2"), values)


def accuracy_table(validation: RowsByEpoch) -> str:
    """The bare target, the best and the last epoch side by side, in Markdown; "" without any of a purifier.

    Raises:
        InputError: The rows cannot be compared (see `validation_table.best`).
    """
    best_epoch = best(validation)
    if best_epoch is None:
        return ""
    first = best_epoch[0]
    last = max(epoch for epoch, defence in validation if defence != NONE)
    bare = [rows for (_, defence), rows in validation.items() if defence == NONE]
    columns = {"unprotected": bare[0]} if bare else {}
    labels = {f"best: epoch {first}": first, f"last: epoch {last}": last}
    if first == last:
        labels = {f"best and last: epoch {last}": last}
    columns |= {label: trained_rows(validation, epoch) for label, epoch in labels.items()}
    measured = [{(row.target, row.attack): row for row in rows} for rows in columns.values()]
    cells = [
        [*map(_cell, pair), row.n, *(_percent(rows.get(pair)) for rows in measured)]
        for pair, row in measured[-1].items()
    ]
    means = [f"{100 * Score(rows=rows).overall:.2f} %" for rows in columns.values()]
    return markdown_table(["target", "attack", "n", *columns], [*cells, ["mean", "", "", *means]])


def _percent(row: Row | None) -> str:
    """An accuracy in percent; nothing where it was not measured."""
    return f"{100 * row.accuracy:.2f} %" if row else ""


def _settings(values: Mapping[str, Any]) -> str:
    """A mapping as a table of two columns."""
    return markdown_table(["setting", "value"], [[_cell(key), _cell(value)] for key, value in values.items()])


def _cell(value: Any) -> str:
    """A value as text that cannot leave its cell, nor become markup, a link or HTML."""
    text = value if isinstance(value, str) else canonical_json(value)
    plain = "".join(character if character.isprintable() else " " for character in text)
    return (plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}…").translate(_MARKDOWN)
