"""What was predicted for each image behind each defence, as a table: nothing is measured twice to compare."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from impure.manifests.base.files import atomic_path, writing
from impure.manifests.base.parquet import write_table
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.measure_group import Defended, GroupMeasurement
from impure.purifier.evaluation.select import Group

FILE = "predictions.parquet"  # behind the name of the report that it lies beside
CLASS_NAMES = "class_names"  # in its metadata
SCHEMA = pa.schema(
    [
        ("target", pa.string()),
        ("attack", pa.string()),
        ("defence", pa.string()),
        ("key", pa.string()),  # of a sample that holds the image
        ("image", pa.string()),  # SHA-256 of the clean pixels
        ("pixels", pa.string()),  # SHA-256 of those that were classified: the attacked ones, or the clean
        ("label", pa.int32()),
        ("predicted", pa.int32()),  # -1 where it was not finite
        ("rejected", pa.bool_()),  # by a detector; null where the defence has none
        ("right", pa.bool_()),  # as it was counted: a rejected image is right if it is attacked
    ]
)


def image_predictions(group: Group, measured: GroupMeasurement) -> pa.Table:
    """The rows of one group: its samples in their order behind the first defence, then behind the next."""
    pairs = list(group.pairs)
    clean = group.attack == CLEAN
    samples = {
        "target": [group.target] * len(pairs),
        "attack": [group.attack] * len(pairs),
        "key": [pair.key for pair in pairs],
        "image": [pair.clean_sha256 for pair in pairs],
        "pixels": [pair.clean_sha256 if clean else pair.adversarial_sha256 for pair in pairs],
        "label": [pair.label for pair in pairs],
    }
    tables = []
    for name, predicted in measured.predictions.items():
        rejected = measured.rejected.get(name)
        columns = {
            **samples,
            "defence": [name] * len(pairs),
            "predicted": predicted.tolist(),
            "rejected": [None] * len(pairs) if rejected is None else rejected.tolist(),
            "right": measured.right[name].tolist(),
        }
        tables.append(pa.table(columns, schema=SCHEMA))
    return pa.concat_tables(tables)


def group_measurement(predictions: pa.Table, shown: Defended) -> GroupMeasurement:
    """What was measured of a group, from its rows and the sample that it shows."""
    kept: dict[str, dict[str, torch.Tensor]] = {"predicted": {}, "right": {}, "rejected": {}}
    for name in predictions["defence"].unique().to_pylist():
        rows = predictions.filter(pc.equal(predictions["defence"], name))
        for column, values in kept.items():
            if rows[column].null_count == 0:
                values[name] = torch.tensor(rows[column].to_pylist())
    return GroupMeasurement(
        predictions=kept["predicted"], right=kept["right"], rejected=kept["rejected"], shown=shown
    )


def write_predictions(
    folder: Path, stem: str, predictions: pa.Table, conditions: Mapping[str, Any], classes: Sequence[str]
) -> Path:
    """Write `STEM-predictions.parquet`, with the conditions and the names of the classes in its metadata.

    Args:
        folder: Of the report, which is there.
        stem: What the report's own files are called.
        predictions: The table.
        conditions: What has to be known to read it.
        classes: Class names in label order, where they are known.

    Raises:
        WriteError: The folder cannot be written.
    """
    path = folder / f"{stem}-{FILE}"
    with writing(path), atomic_path(path) as temporary:
        write_table(temporary, predictions, {**conditions, CLASS_NAMES: list(classes)})
    return path
