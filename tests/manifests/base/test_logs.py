import logging
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from impure.manifests.base.errors import InputError
from impure.manifests.base.logs import LOGGER, collection_log, log_failure, start_log, stop_log, written_log
from impure.manifests.commands.console import Command


@pytest.fixture(autouse=True)
def no_log_left():
    yield
    stop_log()


def test_a_log_is_made_with_its_first_record_and_a_new_one_takes_its_place(tmp_path):
    first, second = (collection_log(tmp_path, "run", name) for name in ("main", "worker-1"))
    assert first == tmp_path / "_logs" / "run-main.log"
    start_log(first)
    assert written_log() is None
    assert not first.exists()
    logging.getLogger("impure.somewhere").warning("one")
    assert written_log() == first
    start_log(second)
    LOGGER.info("two")
    stop_log()
    LOGGER.error("three")
    assert "WARNING impure.somewhere: one" in first.read_text()
    assert [path.read_text().count("\n") for path in (first, second)] == [1, 1]
    assert written_log() is None


def test_without_a_log_nothing_is_said(capsys):
    LOGGER.error("nobody asked")
    assert capsys.readouterr() == ("", "")


def test_a_log_that_cannot_be_written_is_no_failure_of_its_own(tmp_path, capsys):
    (tmp_path / "_logs").write_text("a file stands in the folder's place")
    start_log(collection_log(tmp_path, "run"))
    log_failure(ValueError("broken"))
    assert written_log() is None
    assert capsys.readouterr() == ("", "")


@click.command(cls=Command)
@click.argument("path")
@click.argument("kind")
def failing(path, kind):
    """Fails."""
    start_log(collection_log(Path(path), "run"))
    raise {"bad": InputError("no such thing"), "disk": OSError(28, "No space left"), "bug": KeyError("x"),
        "end": SystemExit(3)}[kind]  # fmt: skip


@pytest.mark.parametrize(("kind", "error"), [("bad", "InputError"), ("disk", "OSError"), ("bug", "KeyError")])
def test_a_command_that_fails_logs_the_traceback_and_says_where(tmp_path, kind, error):
    result = CliRunner().invoke(failing, [str(tmp_path), kind])
    log = collection_log(tmp_path, "run")
    assert f"Log: {log}\n" in result.stderr
    assert "Traceback" not in result.stderr
    text = log.read_text()
    assert "Traceback (most recent call last)" in text
    assert "in failing" in text
    assert f"{error}: " in text
    assert written_log() is None


def test_a_command_that_ends_with_an_exit_code_has_not_failed(tmp_path):
    result = CliRunner().invoke(failing, [str(tmp_path), "end"])
    assert result.exit_code == 3
    assert result.stderr == ""
    assert not (tmp_path / "_logs").exists()


KILLED = """
import os, sys
from pathlib import Path
from impure.manifests.base.logs import log_failure, start_log
start_log(Path(sys.argv[1]))
try:
    1 / 0
except ZeroDivisionError as error:
    log_failure(error)
os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_logged_can_be_read(tmp_path):
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.log")], check=False)
    assert ended.returncode == -signal.SIGKILL
    lines = (tmp_path / "a.log").read_text().splitlines()
    assert "ERROR impure: failed" in lines[0]
    assert lines[-1] == "ZeroDivisionError: division by zero"
