"""The README's lines run as they stand, in the order in which they stand there: all that need no download."""

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from impure.pipeline.builtin.drawing import CLASSES, render
from tests.test_docs import ROOT, SCRIPTS

BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
LINES = [
    line for block in BLOCKS for line in block.splitlines()
    if line.split()[0] in SCRIPTS and "imagenet" not in line
]  # fmt: skip


def test_the_lines_lead_from_nothing_to_a_purified_photograph():
    assert [line.split()[0] for line in LINES] == [
        "impure-data",
        "impure-train",
        "impure-eval",
        "impure-purify",
    ]


@pytest.mark.slow
def test_every_line_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Image.fromarray(render("val", CLASSES[0], 0, 64)).save("photo.jpg")
    for line in LINES:
        name, *arguments = shlex.split(line, comments=True)
        module, _, attribute = SCRIPTS[name].partition(":")
        result = CliRunner().invoke(getattr(import_module(module), attribute), arguments)
        assert result.exit_code == 0, (line, result.output[-2000:])
        for place in re.findall(r"→ (\S+?);?(?:\s|$)", line):
            assert Path(place).is_dir(), f"{place}: the README says that it is made"
    with Image.open("clean.png") as purified:
        assert purified.size == (64, 64)
