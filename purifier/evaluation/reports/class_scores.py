"""Accuracy of each class behind each defence, and which classes it still takes for which others."""

from collections.abc import Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.evaluation.image_strips import class_name

ATTACKED = "attacked"  # in the column `images`: those of all attacks together
MOST_CONFUSIONS = 20  # of each target and defence

Records = list[dict[str, Any]]

_column_of = itemgetter("target", "defence")


def class_tables(predictions: pa.Table, names: Sequence[str] = ()) -> dict[str, Records]:
    """`classes` and `confusions` as reports hold them.

    Args:
        predictions: See `image_predictions.SCHEMA`.
        names: Class names in label order; numbers without.
    """
    return {"classes": class_scores(predictions, names), "confusions": confusions(predictions, names)}


def class_scores(predictions: pa.Table, names: Sequence[str] = ()) -> Records:
    """Accuracy by class, of clean images and of those of all attacks together.

    Args:
        predictions: See `image_predictions.SCHEMA`.
        names: Class names in label order; numbers without.

    Returns:
        Targets and defences in the order of the table, each with its classes by label.
    """
    images = pc.if_else(pc.equal(predictions["attack"], CLEAN), CLEAN, ATTACKED)
    counts = _count(predictions.append_column("images", images), ["target", "defence", "images", "label"])
    place = _places(counts)
    counts.sort(key=lambda row: (place[_column_of(row)], row["label"], row["images"] != CLEAN))
    return [
        {
            "target": row["target"],
            "defence": row["defence"],
            "images": row["images"],
            "label": row["label"],
            "class": class_name(row["label"], names),
            "n": row["n"],
            "correct": row["correct"],
            "accuracy": round(row["correct"] / row["n"], 6),
        }
        for row in counts
    ]


def confusions(predictions: pa.Table, names: Sequence[str] = ()) -> Records:
    """The confusions that remain under attack: the most frequent wrong classes.

    Args:
        predictions: See `image_predictions.SCHEMA`.
        names: Class names in label order; numbers without.

    Returns:
        The `MOST_CONFUSIONS` most frequent of each target and defence; `n` is of the class's attacked images.
    """
    attacked = predictions.filter(pc.not_equal(predictions["attack"], CLEAN))
    classes = _count(attacked, ["target", "defence", "label"])
    of_class = {(*_column_of(row), row["label"]): row["n"] for row in classes}
    place = _places(classes)
    wrong = _count(attacked.filter(pc.invert(attacked["right"])), ["target", "defence", "label", "predicted"])
    wrong.sort(key=lambda row: (place[_column_of(row)], -row["n"], row["label"], row["predicted"]))
    most = [row for _, rows in groupby(wrong, _column_of) for row in islice(rows, MOST_CONFUSIONS)]
    return [
        {
            "target": row["target"],
            "defence": row["defence"],
            "label": row["label"],
            "class": class_name(row["label"], names),
            "predicted": row["predicted"],
            "predicted_class": class_name(row["predicted"], names),
            "count": row["n"],
            "n": (n := of_class[*_column_of(row), row["label"]]),
            "share": round(row["n"] / n, 6),
        }
        for row in most
    ]


def _count(predictions: pa.Table, columns: list[str]) -> Records:
    """How many predictions there are of each combination, and how many of them are right."""
    grouped = predictions.group_by(columns, use_threads=False)  # in the order of first appearance
    counts = grouped.aggregate([("right", "count"), ("right", "sum")]).to_pylist()
    return [{"n": row.pop("right_count"), "correct": row.pop("right_sum"), **row} for row in counts]


def _places(rows: Records) -> dict[tuple[str, str], int]:
    """Places of targets and defences, in the order of first appearance."""
    return {column: place for place, column in enumerate(dict.fromkeys(map(_column_of, rows)))}
