"""Finds the JSON documents of evaluations below folders; they are data, whoever wrote them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impure.manifests.base.canonical_json import canonical_json, parse_object
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_within
from impure.manifests.base.tables import printable

KINDS = {
    "table1": "Accuracy on stored attacks (Table 1)",
    "adaptive": "Attacks through the defence, end to end",
    "table2": "Many defences before one classifier (Table 2)",
    "table3": "Attacks that were not in the training data (Table 3)",
    "compare": "Paired comparison, image by image",
    "fig6": "Where the classifier looks (Figure 6)",
    "fig7": "Masking modes (Figure 7)",
    "fig8": "Sets of perceptual layers (Figure 8)",
    "fig9": "Uniform or random partition (Figure 9)",
    "residual": "Attack strength against what is left of the perturbation (section 3.1)",
    "curves": "Learning curves of a run",
    "leaderboard": "Leaderboard",
}
"""Titles by kind, in the order in which a page shows them."""

TABLES = ("table1", "table2", "table3")
"""Kinds whose rows are accuracies of defences on stored attacks."""

MAX_DOCUMENTS = 500
MAX_BYTES = 1 << 26  # of a document
MAX_ROWS = 100_000  # of each of its lists
MAX_TEXT = 4000  # characters of a condition
NAME = 200  # characters of a name
_NOT_OURS = (".", "_")  # first letters of folders that are nobody's results: _tmp, _logs, .git


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One evaluation's results.

    Attributes:
        path: The file.
        where: Its name for people, beginning with the folder that was asked for.
        kind: A key of `KINDS`.
        content: The JSON object.
    """

    path: Path
    where: str
    kind: str
    content: Mapping[str, Any]

    @property
    def conditions(self) -> dict[str, str]:
        """What has to be known to read the numbers, as text."""
        conditions = self.content.get("conditions", {})
        return {
            as_text(name.replace("_", " "), 200): as_text(value, MAX_TEXT)
            for name, value in conditions.items()
        }


def find_documents(folders: Sequence[Path]) -> tuple[list[Document], list[str]]:
    """The documents below some folders, and a line for each file that calls itself one but is none.

    JSON files without the key "kind" are somebody else's and passed over.

    Args:
        folders: Where to look; folders whose names begin with a dot or an underscore are left out.

    Raises:
        InputError: A folder does not exist, or there are more than `MAX_DOCUMENTS`.
    """
    documents: list[Document] = []
    complaints: list[str] = []
    for path, where in _candidates(folders):
        try:
            if document := read_document(path, where):
                documents.append(document)
        except InputError as error:
            complaints.append(f"{where}: {str(error).removeprefix(f'{path}: ')}")
        if len(documents) + len(complaints) > MAX_DOCUMENTS:
            raise InputError(f"more than {MAX_DOCUMENTS} documents; name fewer folders")
    order = list(KINDS)
    return sorted(documents, key=lambda document: order.index(document.kind)), complaints


def _candidates(folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """JSON files below the folders, each once, with their names for people."""
    seen: set[Path] = set()
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
        for path in _json_files(folder):
            if (real := path.resolve()) not in seen and path.is_file():
                seen.add(real)
                yield path, f"{folder.resolve().name}/{path.relative_to(folder).as_posix()}"


def _json_files(folder: Path) -> Iterator[Path]:
    """Files that end in .json, in the order of their names; markers of shards are passed over."""
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(_NOT_OURS))
        names = sorted(name for name in files if name.endswith(".json") and not name.endswith(".done.json"))
        yield from (Path(parent) / name for name in names)


def read_document(path: Path, where: str) -> Document | None:
    """The document in a file, or None if the file has no kind.

    Raises:
        InputError: It is broken, or of a kind that is unknown.
    """
    text = read_within(path, MAX_BYTES)
    if b'"kind"' not in text or "kind" not in (content := parse_object(text, str(path))):
        return None
    kind = content["kind"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"its kind is {as_text(kind, 40)!r}, which is unknown; known are {', '.join(KINDS)}")
    if not isinstance(content.get("conditions", {}), dict):
        raise InputError("its conditions are no JSON object")
    return Document(path=path, where=where, kind=kind, content=content)


def records_of(content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of JSON objects, not too long; empty where there is none.

    Raises:
        InputError: It is something else.
    """
    records = content.get(name, [])
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InputError(f"its {name} are no list of JSON objects")
    if len(records) > MAX_ROWS:
        raise InputError(f"it has {len(records)} {name}; at most {MAX_ROWS} are read")
    return records


def as_text(value: Any, most: int) -> str:
    """Any JSON value for people, without what steers a terminal, of at most so many characters."""
    text = printable(_spelt(value))
    return text if len(text) <= most else text[: most - 1] + "…"


def _spelt(value: Any) -> str:
    """A JSON value in plain words."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.4g}"
        case list():
            return ", ".join(map(_spelt, value))
        case dict():
            return canonical_json(value)
        case _:
            return str(value)


def number(record: Mapping[str, Any], name: str) -> float | None:
    """A record's number; None where there is none, or something else."""
    value = record.get(name)
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
        else None
    )


def count_of(record: Mapping[str, Any], name: str) -> int:
    """A record's whole number, no more than there can be images.

    Raises:
        InputError: There is none.
    """
    value = record.get(name)
    if type(value) is not int or not 0 <= value <= 10**9:
        raise InputError(f"a row's {name} is no count")
    return value
