"""What an evaluation has measured so far, a file for each attack, until its report is written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing
from impure.manifests.base.parquet import read_table, write_table
from impure.purifier.data.pairs import pairs_digest
from impure.purifier.evaluation.image_predictions import SCHEMA
from impure.purifier.evaluation.select import Group


class PartialResults:
    """Files `partial-TARGET-ATTACK-DIGEST.parquet` in the folder of a report; the digest is of all they need.

    Two processes on one evaluation write the same, each file whole or not at all.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        """Write nothing yet.

        Args:
            folder: Of the report.
            identity: Of configuration, weights and software: all on which predictions depend.
        """
        self._folder = folder
        self._identity = dict(identity)
        self._used: list[Path] = []

    def read(self, group: Group, thresholds: list[str]) -> pa.Table | None:
        """The predictions of a group, where they were measured before.

        Args:
            group: The samples.
            thresholds: Of detectors.

        Raises:
            InputError: The file is damaged.
        """
        path, identity = self._place(group, thresholds)
        if not path.exists():
            return None
        table, found = read_table(path, SCHEMA)
        if digest(found) != digest(identity):
            raise InputError(f"{path}: of another evaluation; delete it to measure that attack again")
        return table.replace_schema_metadata(None)

    def write(self, group: Group, thresholds: list[str], predictions: pa.Table) -> None:
        """Keep the predictions of a group.

        Raises:
            WriteError: The folder cannot be written.
        """
        path, identity = self._place(group, thresholds)
        with writing(path), atomic_path(path) as temporary:
            write_table(temporary, predictions, identity)

    def remove(self) -> None:
        """Delete the files of this evaluation, whose report is written."""
        for path in self._used:
            path.unlink(missing_ok=True)

    def _place(self, group: Group, thresholds: list[str]) -> tuple[Path, dict[str, Any]]:
        """The file of a group, and what it holds."""
        identity = {
            **self._identity,
            "target": group.target,
            "attack": group.attack,
            "pixels": pairs_digest(group.pairs),
            "thresholds": thresholds,
        }
        name = f"partial-{group.target}-{group.attack}-{digest(identity)[:12]}.parquet"
        path = self._folder / name.replace("/", "_").replace(":", "_")
        self._used.append(path)
        return path, identity
