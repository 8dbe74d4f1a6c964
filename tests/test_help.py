"""The help of every command of every console script: whole, documented, in sentences."""

import os
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
LONGEST_SUMMARY = 60  # characters; click cuts what does not fit beside a command's name


def console_scripts():
    scripts = tomllib.loads(PYPROJECT.read_text())["project"]["scripts"]
    for entry_point in scripts.values():
        module, _, name = entry_point.partition(":")
        yield getattr(import_module(module), name)


def commands_below(command, name):
    yield name, command
    for subname, subcommand in getattr(command, "commands", {}).items():
        yield from commands_below(subcommand, f"{name} {subname}")


COMMANDS = {
    name: command for script in console_scripts() for name, command in commands_below(script, script.name)
}
GROUPS = {name: command for name, command in COMMANDS.items() if isinstance(command, click.Group)}
OPTIONS = {
    f"{name} {option.opts[0]}": option
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option)
}

every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
every_option = pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS.keys())


def test_the_walk_finds_all_scripts_and_commands():
    assert {"impure-train", "impure-eval", "impure-purify"} <= COMMANDS.keys()
    assert {"impure-data generate", "impure-data pull", "impure-model convert"} <= COMMANDS.keys()
    assert {"impure-data generate --attack", "impure-train --epochs"} <= OPTIONS.keys()
    assert len(list(console_scripts())) == 5


@every_command
def test_the_summary_is_one_short_sentence(command):
    summary = command.get_short_help_str(limit=1000)
    assert summary.endswith("."), summary
    assert len(summary) <= LONGEST_SUMMARY, summary


@pytest.mark.parametrize("group", GROUPS.values(), ids=GROUPS.keys())
def test_no_summary_is_cut_where_commands_are_listed(group):
    context = click.Context(group, info_name=group.name, terminal_width=80, max_content_width=80)
    _, _, listed = group.get_help(context).partition("\nCommands:\n")
    assert len(listed.splitlines()) >= len(group.commands)
    assert "..." not in listed


@every_command
def test_paragraphs_of_help_end_as_sentences(command):
    paragraphs = [text.strip(" \n") for text in command.help.split("\n\n")]
    prose = [text for text in paragraphs if not text.startswith("\b")]  # examples keep their lines
    assert not [text for text in prose if not text.endswith((".", ":"))]


@every_command
def test_help_keeps_its_examples_on_lines_of_their_own(command):
    assert "\\b" not in command.help


@every_option
def test_every_option_is_documented_in_sentences(option):
    assert option.help, "no help"
    assert option.help.rstrip().endswith("."), option.help


@every_option
def test_no_help_types_a_default(option):
    """A default lives in a dataclass or a constant: see `commands/click_options.py`."""
    assert "[default" not in option.help


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from impure.cli import data, evaluate, model, purify, train; "
        "print(sorted({'torch', 'numpy', 'pyarrow', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_help_of_one_command_imports_no_other():
    code = (
        "import sys; from impure.cli import train; "
        "print([name for name in sys.modules if name.startswith('impure.') and name.endswith('_command')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.strip() == "['impure.purifier.commands.train_command']"
