"""The wheel, built as a user's tool would build it, and what the README promises."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel made from the sdist of a clean copy of the tracked files."""
    out = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in tracked.decode().split("\0") if name]
    subprocess.run(["cp", "-P", "--parents", *names, str(source)], cwd=ROOT, check=True)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


def test_the_only_top_level_name_is_impure(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert top == {"impure"}


def test_the_wheel_holds_all_modules_and_data(wheel):
    held = {name.removeprefix("impure/") for name in zipfile.ZipFile(wheel).namelist()}
    rooms = ("pipeline", "purifier", "manifests")
    kinds = (".py", ".json", ".safetensors", ".html")
    wanted = {path.relative_to(ROOT).as_posix() for room in rooms for path in (ROOT / room).rglob("*")
              if path.suffix in kinds}  # fmt: skip
    assert wanted | {"cli.py", "py.typed", "__init__.py"} <= held


def test_the_readme_names_every_console_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    readme = (ROOT / "README.md").read_text()
    assert [name for name in scripts if name not in readme] == []
