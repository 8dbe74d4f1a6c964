"""The wheel, built as a user's tool would build it, and what the README promises."""

import os
import re
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
    kinds = (".py", ".json", ".safetensors", ".j2", ".css", ".js")
    wanted = {path.relative_to(ROOT).as_posix() for room in rooms for path in (ROOT / room).rglob("*")
              if path.suffix in kinds}  # fmt: skip
    assert wanted | {"cli.py", "py.typed", "__init__.py"} <= held


def test_the_readme_names_every_console_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    readme = (ROOT / "README.md").read_text()
    assert [name for name in scripts if name not in readme] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_two_commands_work_from_the_wheel_in_an_empty_folder(wheel, tmp_path):
    """`impure-data generate --attack pgd --eps 16` as typed, then training on the folder that it named."""
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(installed), str(wheel)], check=True)

    def typed(command: str, *arguments: str) -> str:
        code = f"import sys, impure.cli; assert {str(installed)!r} in impure.__file__; impure.cli.{command}()"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=empty, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(installed)}, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    said = typed("data", "generate", "--attack", "pgd", "--eps", "16")
    named = re.search(r"Collection: (\S+)", said)
    assert named
    assert "Run: " in typed("train", "--shards", named[1], "--epochs", "1")
    assert (empty / "impure-runs").is_dir()
