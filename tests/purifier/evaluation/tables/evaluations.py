"""Evaluations made up for the tests of tables: rows, and predictions image by image."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from impure.purifier.evaluation.image_predictions import SCHEMA
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.scores import Row


def evaluation_of(
    attacks: Sequence[str], correct: Mapping[str, Sequence[int]], *, target: str = "net", n: int = 10
) -> Evaluation:
    """Rows of `n` images, with so many right behind each defence under each attack."""
    rows = [
        Row(target=target, attack=attack, defence=defence, n=n, correct=counts[place])
        for place, attack in enumerate(attacks)
        for defence, counts in correct.items()
    ]
    return Evaluation(rows=tuple(rows), examples=(), conditions={"threat_model": "black-box"})


def answers(
    defence: str, right: Sequence[bool], *, attack: str = "pgd", target: str = "net", **changed: Any
) -> pa.Table:
    """A defence's answers on images 0, 1, …; wrong ones say class 9."""
    rows = [
        {
            "target": target,
            "attack": attack,
            "defence": defence,
            "key": f"{target}__{attack}__{number}",
            "image": f"clean {number}",
            "pixels": f"{attack} {number}",
            "label": number % 3,
            "predicted": number % 3 if is_right else 9,
            "right": is_right,
            **changed,
        }
        for number, is_right in enumerate(right)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
