"""The page of Table 1: an evaluation with its image strips."""

from collections.abc import Sequence

from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.accuracy_section import accuracy_section
from impure.purifier.evaluation.reports.class_scores import class_tables
from impure.purifier.evaluation.reports.page import render

TITLE = "Purification: accuracy under attack"


def html(evaluation: Evaluation, images: str, classes: Sequence[str] = ()) -> str:
    """One page that needs nothing else.

    Args:
        evaluation: What to show.
        images: Which images were measured on.
        classes: Names of the classes in label order; numbers without.
    """
    section = accuracy_section(
        evaluation,
        TITLE,
        class_tables(evaluation.predictions, classes),
        images=images,
        classes=classes,
    )
    return render(TITLE, [section])
