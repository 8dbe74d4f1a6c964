"""The documentation is true to the code: links, commands, options and Python names that it mentions exist."""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import click
import pytest
import torch

import impure
from impure.pipeline.attacks.attack_registry import ATTACKS
from impure.pipeline.targets.target import Target
from impure.purifier.checkpoints.checkpoint import save_weights
from impure.purifier.riae.riae_config import preset
from impure.purifier.training.train_config import RECIPE_TRAINING

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = [
    page for page in PAGES if not page.name.startswith("add_")
]  # those show files that are yet to be made
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

#: Options that click adds, and those of torchrun, uv, pip and the benchmarks.
OTHERS = {
    "--array",
    "--help",
    "--nproc-per-node",
    "--no-python",
    "--override",
    "--no-deps",
    "--against",
    "--variant",
    "--jobs",
    "--behind",
    "--rounds",
    "--size",
    "--count",
    "--photographs",
    "--card",
    "--classes-of",
    "--cards",
    "--remarks",
    "--results",
    "--scale",
    "--minutes",
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())


def _commands() -> Iterator[tuple[str, click.Command]]:
    """Every console command, and every command below one."""
    for name, entry in SCRIPTS.items():
        module, _, attribute = entry.partition(":")
        command = getattr(import_module(module), attribute)
        yield name, command
        for below in getattr(command, "commands", {}).values():
            yield f"{name} {below.name}", below


COMMANDS = dict(_commands())
OPTIONS = {
    option
    for command in COMMANDS.values()
    for parameter in command.params
    for option in (*parameter.opts, *parameter.secondary_opts)
}


def _blocks(page: Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_point_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in (link for link in links if "://" not in link):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@every_page
def test_options_are_those_of_a_command(page: Path) -> None:
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", page.read_text()))
    assert sorted(mentioned - OPTIONS - OTHERS) == []


@every_page
def test_command_lines_name_commands_and_their_own_options(page: Path) -> None:
    for line in "\n".join(_blocks(page, "sh")).splitlines():
        if match := re.search(r"\b(impure-\w+)( [a-z]+\d*\b)?([^#]*)", line):
            name, below, rest = match.groups(default="")
            command = COMMANDS.get(name + below, COMMANDS.get(name))
            assert command, line
            command = COMMANDS[f"{name} table1"] if command is COMMANDS["impure-eval"] else command
            own = {option for parameter in command.params for option in parameter.opts}
            assert set(re.findall(r"(?<!\w)--[a-z][a-z0-9-]*", rest)) <= own, line


@pytest.mark.parametrize("page", REFERENCE, ids=lambda path: path.name)
def test_python_code_is_python_and_its_names_of_impure_exist(page: Path) -> None:
    for block in _blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("impure"):
                module = import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "impure":
                assert node.attr in impure.__all__, node.attr


def test_every_command_is_documented() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    assert [name for name in COMMANDS if name not in text] == []


def test_what_the_authors_release_does_otherwise_is_told() -> None:
    attacks, release = ((ROOT / "docs" / name).read_text() for name in ("attacks.md", "release.md"))
    lines = attacks[attacks.index("## What the paper's authors ran") :].splitlines()
    for name, spec in ATTACKS.items():
        for parameter, value in spec.release.items():
            (line,) = [line for line in lines if line.startswith("|") and f"`{name}`" in line.split("|")[1]]
            assert f"`{parameter}={str(value).lower().removesuffix('.0')}`" in line
    changed = RECIPE_TRAINING["release"]
    assert f"--lr-cycles {changed['lr_cycles']}`, `--epochs {changed['epochs']}`" in release
    assert f"| {changed['batch_size']}, " in release
    assert f"peak {changed['learning_rate'] * 1e5}e-5 |" in release


def test_how_far_float32_pixels_depend_on_the_batch_is_told() -> None:
    assert re.search(
        r"[\d.]+ % of PGD's bytes differed, by up to \d+ levels", (ROOT / "docs" / "attacks.md").read_text()
    )


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 100
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"docs/{page.name}" not in readme] == []


def test_the_readmes_python_runs(
    builtin_target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = impure.RIAE(preset("tiny"))
    save_weights(tmp_path / "RUN" / "best", network.state_dict(), {"riae": asdict(network.config)})
    monkeypatch.chdir(tmp_path)
    names = {"classifier": builtin_target, "images": torch.rand(2, 3, 48, 48), "labels": torch.arange(2)}
    (code,) = _blocks(ROOT / "README.md", "python")
    exec(code, names)
    assert 0 <= names["accuracy"] <= 1
