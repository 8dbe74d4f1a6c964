import errno
import json
import os

import click
import pytest
from click.testing import CliRunner

from impure.manifests.base.errors import ImpureError, InputError, WriteError
from impure.manifests.base.logs import start_log
from impure.manifests.commands.console import (
    Command,
    CommandWithSections,
    print_json,
    print_text,
    say,
    writable,
)


def failing(error):
    @click.command(cls=Command)
    def command() -> None:
        raise error

    return command


class OutOfMemoryError(RuntimeError):
    """As torch calls it, without torch."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ImpureError("a.tar: is damaged"), "Error: a.tar: is damaged"),
        (
            FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "a.tar"),
            "Error: a.tar: No such file or directory",
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.tar"),
            "Error: a.tar: No space left on device; make room, and the same command continues",
        ),
        (
            OutOfMemoryError("CUDA out of memory\nmuch more"),
            "Error: CUDA out of memory; out of memory: a smaller --batch-size needs less, or close what else "
            "uses it",
        ),
        (RuntimeError("CUDA error: launch failed"), "Error: CUDA error: launch failed"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_foreseeable_failures_are_one_line_and_exit_code_1(error, line):
    result = CliRunner().invoke(failing(error), [])
    assert result.exit_code == 1
    assert result.stderr == f"{line}\n"


def test_what_the_terminal_cannot_encode_is_no_traceback():
    @click.command(cls=Command)
    def command() -> None:
        click.echo("caf\udce9 ×8")

    result = CliRunner().invoke(command, [])
    assert (result.exit_code, result.stdout) == (0, "caf\\udce9 ×8\n")


def test_a_bug_keeps_its_traceback():
    result = CliRunner().invoke(failing(RuntimeError("shapes differ")), [])
    assert isinstance(result.exception, RuntimeError)


def test_a_failure_says_where_its_traceback_is(tmp_path):
    @click.command(cls=Command)
    def command() -> None:
        start_log(tmp_path / "logs" / "main.log")
        raise ImpureError("a.tar: is damaged")

    result = CliRunner().invoke(command, [])
    assert result.stderr.splitlines() == [
        f"Log: {tmp_path / 'logs' / 'main.log'}",
        "Error: a.tar: is damaged",
    ]
    assert "Traceback" in (tmp_path / "logs" / "main.log").read_text()


def test_options_stand_under_the_heading_of_the_first():
    @click.command(cls=CommandWithSections, sections={"shards": "Data", "epochs": "Updates"})
    @click.argument("names", metavar="A B …")
    @click.option("--shards", help="Where.")
    @click.option("--split", help="Which.")
    @click.option("--epochs", help="How long.")
    def command(names: str, shards: str, split: str, epochs: str) -> None: ...

    lines = CliRunner().invoke(command, ["--help"]).output.splitlines()
    headings = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Data:", "Updates:"]
    assert [line for line in lines if "A B …" in line] == [lines[0]]  # arguments are no options
    assert (
        lines.index("Data:")
        < next(i for i, line in enumerate(lines) if "--split" in line)
        < lines.index("Updates:")
    )


def test_notes_leave_standard_output_to_the_json():
    @click.command(cls=Command)
    def command() -> None:
        say("a note")
        print_json({"shards": 3})

    result = CliRunner().invoke(command, [])
    assert json.loads(result.stdout) == {"shards": 3}
    assert result.stderr == "a note\n"


def test_a_folder_is_made_and_tried_before_work_begins(tmp_path):
    assert writable(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="file: cannot be written .*choose another --out"):
        writable(tmp_path / "file")


def test_messages_cannot_steer_the_terminal(capsys):
    error = InputError("a\x1b[2Jb\x07.tar: broken")
    assert CliRunner().invoke(failing(error)).output == "Error: a\ufffd[2Jb\ufffd.tar: broken\n"
    say("x\x1by\nz\udc80")
    print_text("x\x9by")
    captured = capsys.readouterr()
    assert captured.err == "x\ufffdy\nz\ufffd\n"
    assert captured.out == "x\ufffdy\n"


def test_a_command_that_wrote_nothing_leaves_no_folder_behind(tmp_path):
    @click.command(cls=Command)
    @click.argument("file", required=False)
    def command(file: str | None) -> None:
        root = writable(tmp_path / "a" / "b")
        (root / "_tmp" / "part").mkdir(parents=True)
        if file:
            (root / file).write_text("")
        raise InputError("no")

    (tmp_path / "a").mkdir()
    assert CliRunner().invoke(command).exit_code == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]
    assert CliRunner().invoke(command, ["kept"]).exit_code == 1
    assert (tmp_path / "a" / "b" / "kept").exists()
