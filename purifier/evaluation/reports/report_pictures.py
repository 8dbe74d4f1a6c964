"""The pictures beside a table of accuracies: bars of each target, and image strips."""

from collections.abc import Sequence
from pathlib import Path

from impure.manifests.base.files import atomic_path, writing
from impure.purifier.evaluation.figures.accuracy_bars import accuracy_bars, bars_of
from impure.purifier.evaluation.figures.plot_style import save
from impure.purifier.evaluation.image_strips import Example, draw_strips
from impure.purifier.evaluation.measure import Evaluation
from impure.purifier.evaluation.reports.report_table import targets_of


def write_pictures(
    evaluation: Evaluation, folder: Path, stem: str, classes: Sequence[str] = ()
) -> list[Path]:
    """Write `STEM-accuracy-TARGET.svg` and `.png`, and `STEM-strips-TARGET.png` where there are examples.

    Args:
        evaluation: What was measured.
        folder: Where.
        stem: The name of the document that they lie beside.
        classes: Names of the classes in label order; numbers without.

    Raises:
        WriteError: The folder cannot be written.
    """
    paths = []
    for target in targets_of(evaluation):
        bars = accuracy_bars(bars_of(evaluation.rows, target), f"Accuracy before {target}")
        paths += save(bars, folder, f"{stem}-accuracy-{target}")
        if shown := [example for example in evaluation.examples if example.target == target]:
            paths.append(write_strips(shown, folder / f"{stem}-strips-{target}.png", classes))
    return paths


def write_strips(examples: Sequence[Example], path: Path, classes: Sequence[str]) -> Path:
    """Write image strips as one picture.

    Args:
        examples: At least one.
        path: The file.
        classes: Names of the classes in label order; numbers without.

    Raises:
        WriteError: It cannot be written.
    """
    sheet = draw_strips(examples, classes)
    with writing(path), atomic_path(path) as temporary:
        sheet.save(temporary, "PNG")
    return path
