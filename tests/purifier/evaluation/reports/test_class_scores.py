"""Accuracy by class and confusions, against a plain count."""

from collections import Counter

import numpy as np
import pyarrow as pa

from impure.purifier.evaluation.image_predictions import SCHEMA
from impure.purifier.evaluation.reports.class_scores import MOST_CONFUSIONS, class_scores, confusions

CELLS = [
    (target, attack, defence) for target in "ab" for attack in ("clean", "pgd", "cw") for defence in "xy"
]


def predictions(classes: int = 4, each: int = 30) -> pa.Table:
    rng = np.random.default_rng(0)
    rows = [
        {"target": target, "attack": attack, "defence": defence, "label": label, "predicted": predicted}
        for target, attack, defence in CELLS
        for label, predicted in rng.integers(0, classes, (each, 2)).tolist()
    ]
    rows = [{**row, "right": row["label"] == row["predicted"], "key": "", "image": ""} for row in rows]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_accuracy_by_class_is_that_of_a_plain_count() -> None:
    table = predictions()
    counted = Counter(
        (
            row["target"],
            row["defence"],
            "clean" if row["attack"] == "clean" else "attacked",
            row["label"],
            right,
        )
        for row in table.to_pylist()
        for right in [row["right"]]
    )
    records = class_scores(table, ("ant", "bee"))
    for record in records:
        key = record["target"], record["defence"], record["images"], record["label"]
        assert record["correct"] == counted[*key, True]
        assert record["n"] == counted[*key, True] + counted[*key, False]
    assert sum(record["n"] for record in records) == len(table)
    assert [record["class"] for record in records[:5]] == ["ant", "ant", "bee", "bee", "2"]
    assert [record["images"] for record in records[:2]] == ["clean", "attacked"]
    assert list(dict.fromkeys((record["target"], record["defence"]) for record in records)) == [
        ("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"),
    ]  # fmt: skip


def test_confusions_are_the_most_frequent_wrong_answers_under_attack() -> None:
    table = predictions()
    counted = Counter(
        (row["target"], row["defence"], row["label"], row["predicted"])
        for row in table.to_pylist()
        if row["attack"] != "clean" and not row["right"]
    )
    records = confusions(table)
    assert {
        (record["target"], record["defence"], record["label"], record["predicted"]): record["count"]
        for record in records
    } == counted
    of_first = [record["count"] for record in records if (record["target"], record["defence"]) == ("a", "x")]
    assert of_first == sorted(of_first, reverse=True) and len(of_first) == 12
    many = confusions(predictions(classes=20, each=300))
    assert len(many) == 4 * MOST_CONFUSIONS
    assert all(record["count"] <= record["n"] for record in many)


def test_a_rejected_attack_is_no_confusion() -> None:
    table = predictions()
    right = table.set_column(SCHEMA.get_field_index("right"), "right", pa.array([True] * len(table)))
    assert confusions(right) == [] and class_scores(SCHEMA.empty_table()) == []
