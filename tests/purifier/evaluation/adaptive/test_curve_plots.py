"""Curves name what tells their lines apart, and nothing else."""

import pytest

from impure.purifier.evaluation.adaptive.curve_plots import draw_curves


def curves(*budgets: int) -> dict[str, list[dict[str, object]]]:
    verdicts = {"mean": 0.5, "worst": 0.4, "mean_low": 0.3, "mean_high": 0.7}
    points = [{"eps": eps, "steps": steps, "eot": 1, **verdicts} for eps in budgets for steps in (5, 10)]
    return {"eps": points[::2], "steps": points, "eot": []}


@pytest.mark.parametrize(
    ("names", "budgets", "by_eps", "by_steps"),
    [
        (["riae"], (4,), [], ["ε 4/255"]),
        (["riae"], (4, 16), [], ["ε 4/255", "ε 16/255"]),
        (["none", "riae"], (4,), ["none", "riae"], ["none, ε 4/255", "riae, ε 4/255"]),
    ],
)
def test_lines_are_told_apart(
    names: list[str], budgets: tuple[int, ...], by_eps: list[str], by_steps: list[str]
) -> None:
    figures = draw_curves({name: curves(*budgets) for name in names})
    assert list(figures) == ["eps", "steps"]
    for axis, labels in (("eps", by_eps), ("steps", by_steps)):
        legends = [text.get_text() for legend in figures[axis].legends for text in legend.get_texts()]
        assert legends == labels
        assert figures[axis].axes[0].get_title() == (names[0] if len(names) == 1 else "")
