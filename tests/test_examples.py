"""The examples run as they stand, offline, and the quickstart is as short as it claims to be."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
QUICKSTART = ROOT / "examples" / "quickstart.py"


def test_the_quickstart_attacks_with_and_without_a_purifier(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(QUICKSTART)])
    with torch.random.fork_rng():
        runpy.run_path(str(QUICKSTART), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["alone", "purified"]
    assert all("withstand PGD" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_offline_and_says_what_it_measured(path: Path, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path), "IMPURE_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, **offline, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip()
    assert list(tmp_path.iterdir()) == [], "the example left files behind"


def test_the_quickstart_has_fewer_than_15_lines_of_code() -> None:
    source = QUICKSTART.read_text()
    docstring = ast.parse(source).body[0].end_lineno
    lines = source.splitlines()[docstring:]
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) < 15


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_how_to_run_it(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and f"`python examples/{path.name}" in docstring
