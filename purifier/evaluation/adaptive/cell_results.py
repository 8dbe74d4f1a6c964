"""Results per image in Parquet, a file for each batch of a cell, written as they come and never twice."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing
from impure.manifests.base.parquet import read_table, write_table
from impure.purifier.data.pairs import Pair
from impure.purifier.evaluation.adaptive.adaptive_config import Cell
from impure.purifier.evaluation.adaptive.attack_cell import CellBatch

SCHEMA = pa.schema(
    [
        ("image", pa.string()),  # SHA-256 of the clean pixels
        ("key", pa.string()),  # of a sample that holds it
        ("label", pa.int32()),
        ("predictions", pa.list_(pa.int32())),  # behind each draw, on the stored bytes
        ("linf_255", pa.int32()),
        ("grad_evals", pa.int64()),
        ("passes", pa.float64()),  # forward, of an image; the mean of its batch
        ("seconds", pa.float64()),
    ]
)
FOLDER = "results"


class CellResults:
    """The files of one cell in an evaluation's folder.

    Two processes may work on one evaluation: both write the same, each file whole or not at all.
    """

    def __init__(self, out: Path, cell: Cell) -> None:
        """Write nothing yet."""
        self.cell = cell
        self._identity = asdict(cell)
        name = f"{cell.target}-{cell.defence}-{cell.attack}-{cell.eps}".replace("/", "_").replace(":", "_")
        self._folder = out / FOLDER / f"{name}-{digest(self._identity)[:12]}"

    def path(self, number: int) -> Path:
        """The file of a batch."""
        return self._folder / f"batch-{number:05d}.parquet"

    def has(self, number: int) -> bool:
        """Whether a batch is done."""
        return self.path(number).exists()

    def put(self, number: int, pairs: list[Pair], batch: CellBatch) -> None:
        """Write a batch.

        Raises:
            WriteError: The folder cannot be written.
        """
        columns = {
            "image": [pair.clean_sha256 for pair in pairs],
            "key": [pair.key for pair in pairs],
            "label": [pair.label for pair in pairs],
            "predictions": batch.predictions.T.tolist(),
            "linf_255": batch.linf_255.tolist(),
            "grad_evals": batch.grad_evals.tolist(),
            "passes": [batch.passes] * len(pairs),
            "seconds": [batch.seconds] * len(pairs),
        }
        path = self.path(number)
        with writing(path), atomic_path(path) as temporary:
            write_table(temporary, pa.table(columns, schema=SCHEMA), self._identity)

    def read(self) -> pa.Table:
        """All rows that are there, in the order of the batches.

        Raises:
            InputError: A file is damaged, or of another cell.
        """
        tables = [SCHEMA.empty_table()]
        for path in sorted(self._folder.glob("batch-*.parquet")):
            table, identity = read_table(path, SCHEMA)
            if identity != self._identity:
                raise InputError(f"{path}: of another evaluation; delete it to measure that batch again")
            tables.append(table.replace_schema_metadata(None))
        return pa.concat_tables(tables)


def correctness(table: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Predictions (n, draws) and labels (n,) of a cell's rows.

    Raises:
        InputError: Rows have different numbers of draws, or none.
    """
    drawn = table["predictions"].to_pylist()
    if len({len(row) for row in drawn}) != 1:
        raise InputError("adaptive results: rows of different numbers of draws; measure them again")
    return np.array(drawn, np.int64), table["label"].to_numpy().astype(np.int64)
