"""Few defences are bars in groups; many are lines, since colours would not tell them apart."""

import pytest

from impure.purifier.evaluation.figures.accuracy_bars import Bar, accuracy_bars
from impure.purifier.evaluation.figures.plot_style import COLOURS, svg

ATTACKS = {"clean": 0.9, "fgsm": 0.2, "pgd": 0.6}


def bars(defences: int, attacks: tuple[str, ...] = tuple(ATTACKS)) -> list[Bar]:
    return [
        Bar(attack, f"${name}$ " + "long " * name, ATTACKS[attack], 0, 1)
        for attack in attacks
        for name in range(defences)
    ]


def test_as_many_defences_as_colours_are_groups_of_bars() -> None:
    (axes,) = accuracy_bars(bars(len(COLOURS)), "title").axes
    assert len(axes.patches) == len(COLOURS) * len(ATTACKS)


def test_more_are_lines_with_mean_range_and_clean() -> None:
    count = len(COLOURS) + 4
    drawn = accuracy_bars(bars(count), "title")
    (axes,) = drawn.axes
    assert [patch.get_width() for patch in axes.patches] == pytest.approx([40] * count)
    assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx([90] * count)
    assert all(segments.get_segments()[0][:, 0].tolist() == [20, 60] for segments in axes.collections)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[1] == "$1$ long " and max(map(len, labels)) == 40 and labels[-1].startswith("…")
    text = svg(drawn)
    assert text.count("mean of attacks") == 1 and "$1$ long" in text


@pytest.mark.parametrize("attacks", [("clean",), ("pgd",)])
def test_clean_images_or_an_attack_alone_are_enough(attacks: tuple[str, ...]) -> None:
    (axes,) = accuracy_bars(bars(20, attacks), "title").axes
    assert len(axes.patches) == 20 * ("pgd" in attacks) and len(axes.lines) == 20 * ("clean" in attacks)
