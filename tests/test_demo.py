"""The demo, as `make demo` runs it: what it promises to show."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_shows_that_attacks_work_and_that_riae_undoes_them(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", str(ROOT / "examples" / "demo.sh"), "demo"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PATH": path}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads((tmp_path / "demo" / "report" / "report.json").read_text())
    accuracy = {(row["attack"], row["defence"]): row["accuracy"] for row in report["rows"]}
    mean = {each["defence"]: each["accuracy"] for each in report["means"]}
    assert accuracy["pgd", "none"] <= 0.10
    assert mean["riae"] >= mean["none"] + 0.30
    assert mean["riae"] >= mean["jpeg"] + 0.30
    last = done.stdout.splitlines()[-3:]
    assert [line.split(":")[0] for line in last] == ["Report", "Contact sheet", "Next"]
    assert all((tmp_path / line.split()[-1]).is_file() for line in last[:2])
