"""Learning curves from a run's files, whole, still growing, or damaged."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from impure.cli import model
from impure.manifests.base.errors import InputError
from impure.purifier.evaluation.figures.learning_curves import Curves, curves_plot, read_curves
from impure.purifier.evaluation.reports.document_page import page_of_folders
from tests.common import one_line

HEADER = "epoch,step,loss,pixel,perceptual,learning_rate,images_per_second\n"
ROWS = "0,20,3.0,1.0,2.0,0.001,80\n0,40,0.2,0.1,0.1,0.002,81\n"
VALIDATION = """epoch,target,attack,defence,n,correct
0,t,clean,none,10,10
0,t,pgd,none,10,1
1,t,clean,riae,10,8
1,t,pgd,riae,10,4
2,t,clean,riae,10,9
2,t,pgd,riae,10,7
"""


def write_run(folder: Path, log: str = HEADER + ROWS, validation: str | None = VALIDATION) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "log.csv").write_text(log)
    if validation is not None:
        (folder / "validation.csv").write_text(validation)
    return folder


def read(run: Path) -> Curves:
    return read_curves(run / "log.csv", run / "validation.csv")


def test_panels(tmp_path: Path) -> None:
    curves = read(write_run(tmp_path))
    assert {name: list(values) for name, values in curves.losses.items()} == {
        "loss": [3.0, 0.2], "pixel": [1.0, 0.1], "perceptual": [2.0, 0.1],
    }  # fmt: skip
    losses, rate, accuracy = curves_plot(curves).axes
    assert losses.get_yscale() == "log" and rate.get_yscale() == "linear"
    lines = {line.get_label(): list(line.get_ydata()) for line in accuracy.lines}
    assert lines["clean"] == [80, 90] and lines["attacked, mean"] == [40, 70]
    assert lines["attacked, no defence"] == [10, 10] and "best: epoch 2" in lines


def test_a_run_that_goes_on_is_drawn_as_far_as_it_is(tmp_path: Path) -> None:
    torn = read(write_run(tmp_path, HEADER + ROWS + "0,60,0.1", validation=None))
    assert list(torn.log["step"]) == [20, 40]
    assert len(curves_plot(torn).axes) == 2
    for begun in ("", HEADER, HEADER[:9]):
        with pytest.raises(InputError, match="holds no row yet"):
            read(write_run(tmp_path, begun, validation=None))


def test_parts_that_a_recipe_leaves_out_are_not_drawn(tmp_path: Path) -> None:
    curves = read(write_run(tmp_path, HEADER + "0,20,1.5,1.5,0.0,0.001,80\n0,40,1.2,1.2,0.0,0.002,81\n"))
    assert list(curves.losses) == ["loss"]
    assert curves_plot(curves).axes[0].get_yscale() == "linear"  # it falls too little


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (HEADER + "0,20,3.0\n" + ROWS, "log.csv: line 2 has 3 values instead of 7"),
        (HEADER + ROWS.replace("0.2", "a"), "log.csv: line 3: could not convert string to float: 'a'"),
        (HEADER + ROWS.replace("0.2", "nan"), "log.csv: line 3 holds a value that is not finite"),
        ("a,b\n1,2\n", "no training log; it has no column epoch, learning_rate, step"),
    ],
)
def test_a_damaged_log_is_one_line(tmp_path: Path, log: str, said: str) -> None:
    one_line(CliRunner().invoke(model, ["curves", str(write_run(tmp_path, log))]), said)
    assert not list(tmp_path.glob("curves.*"))


def test_the_command_writes_both_and_replaces_them(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    for _ in range(2):
        found = CliRunner().invoke(model, ["curves", str(run)])
        assert found.exit_code == 0, found.output
    assert found.stdout.startswith("40 updates, 2 validations: ")
    with Image.open(run / "curves.png", formats=["PNG"]) as image:
        assert image.width > image.height
    page, count, complaints = page_of_folders([run])
    assert count == 1 and not complaints and page.count("data:image/svg+xml") == 1 and "70.0" in page
    assert "validation accuracy, %</text>" in (run / "curves.svg").read_text()
