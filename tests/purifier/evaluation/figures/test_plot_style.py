from pathlib import Path
from xml.etree import ElementTree

from matplotlib.figure import Figure
from PIL import Image

from impure.purifier.evaluation.figures.plot_style import INK, PNG_DPI, figure, save, svg


def _curve() -> Figure:
    drawn = figure(3, 2)
    axes = drawn.subplots()
    axes.plot([0, 1], [0, 50], marker="o", label="ε = 8")
    axes.set_title("accuracy < 51 %")
    axes.legend()
    return drawn


def test_svg_is_one_element_with_text_and_the_same_bytes_each_time() -> None:
    text = svg(_curve())
    assert text == svg(_curve())
    assert ElementTree.fromstring(text).tag.endswith("svg")
    assert "accuracy &lt; 51 %</text>" in text and "ε = 8</text>" in text  # text, no outlines
    assert "<!DOCTYPE" not in text and "<metadata>" not in text  # they name addresses and dates


def test_text_is_readable_on_both_grounds() -> None:
    text = svg(_curve())
    assert INK in text
    assert "#000000" not in text and "#ffffff" not in text


def test_save_writes_svg_and_transparent_png(tmp_path: Path) -> None:
    paths = save(_curve(), tmp_path / "new", "residual-pgd")
    assert paths == [tmp_path / "new" / "residual-pgd.svg", tmp_path / "new" / "residual-pgd.png"]
    with Image.open(paths[1], formats=["PNG"]) as image:
        assert image.size == (3 * PNG_DPI, 2 * PNG_DPI)
        assert image.convert("RGBA").getpixel((0, 0))[3] == 0
