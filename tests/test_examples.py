"""The examples run as they stand, offline, and the quickstart is as short as it claims to be."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RUN_ALL = """
import runpy, sys
for path in sys.argv[1:]:
    print("==", path, flush=True)
    sys.argv = [path]
    runpy.run_path(path, run_name="__main__")
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each example prints, by file name; one process runs all, as importing PyTorch takes longest."""
    empty = tmp_path_factory.mktemp("empty")
    offline = {
        "HF_HUB_OFFLINE": "1",
        "TORCH_HOME": str(empty),
        "IMPURE_CACHE": str(empty),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL, *map(str, EXAMPLES)], cwd=empty, capture_output=True, text=True,
        env={**os.environ, **offline}, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert list(empty.iterdir()) == [], "an example left files behind"
    parts = (text.partition("\n") for text in done.stdout.split("== ")[1:])
    return {Path(path).name: text for path, _, text in parts}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs_and_says_what_it_measured(printed: dict[str, str], path: Path) -> None:
    assert printed[path.name].strip()


def test_the_quickstart_attacks_with_and_without_a_purifier(printed: dict[str, str]) -> None:
    lines = printed["quickstart.py"].splitlines()
    assert [line.partition(":")[0] for line in lines] == ["alone", "purified"]
    assert all("withstand PGD" in line for line in lines)


def test_the_quickstart_has_fewer_than_15_lines_of_code() -> None:
    source = (ROOT / "examples" / "quickstart.py").read_text()
    docstring = ast.parse(source).body[0].end_lineno
    lines = source.splitlines()[docstring:]
    assert len([line for line in lines if line.strip() and not line.strip().startswith("#")]) < 15


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_says_how_to_run_it(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring and f"`python examples/{path.name}" in docstring
