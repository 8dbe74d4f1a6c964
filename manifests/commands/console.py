"""What all commands have in common: errors in one line, sections in `--help`, JSON, progress bars.

Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import click

from impure.manifests.base.errors import ImpureError, first_line
from impure.manifests.base.files import writing
from impure.manifests.base.logs import NOTES, log_failure, stop_log, written_log
from impure.manifests.base.tables import printable

SHORTFALL = 3  # exit code: finished, but with less than was asked for, or with bad shards
HELP = {"help_option_names": ["-h", "--help"]}


class Command(click.Command):
    """A command whose foreseeable failures are one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it; a failure is logged before it becomes one line."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(
                stream, TextIOWrapper
            ):  # it takes what no encoding has: file names that are no UTF-8
                stream.reconfigure(errors="backslashreplace")
        with _failure_logged(), _notes_shown():
            return self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> Any:
        """Run it, turning what a user or a machine can cause into a message."""
        try:
            return super().invoke(ctx)
        except ImpureError as error:
            raise click.ClickException(harmless(str(error))) from error
        except BrokenPipeError:
            raise  # click ends quietly when the reader of a pipe has gone
        except OSError as error:
            raise click.ClickException(harmless(_os_error(error))) from error
        except (MemoryError, RuntimeError) as error:
            if not _is_foreseeable(error):
                raise
            raise click.ClickException(first_line(error) + _remedy(error)) from error


class CommandWithSections(Command):
    """A command with so many options that they stand under headings."""

    def __init__(self, *args: Any, sections: Mapping[str, str], **kwargs: Any) -> None:
        """Take the headings, by the name of the first option below each."""
        super().__init__(*args, **kwargs)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options below their headings; arguments stand in the usage and in the text."""
        heading = "Options"
        records: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            if isinstance(option, click.Argument):  # click 8.5.1 has a record of those, too
                continue
            heading = self._sections.get(str(option.name), heading)
            if record := option.get_help_record(ctx):
                records.setdefault(heading, []).append(record)
        for heading, section in records.items():
            with formatter.section(heading):
                formatter.write_dl(section)


@contextmanager
def _failure_logged() -> Iterator[None]:
    """If the command has started a log (see `start_log`), put a failure's traceback there and say where."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        log_failure(error.__cause__ or error)
        say_where_the_log_is()
        raise
    finally:
        stop_log()


class _NotesOnTerminal(logging.Handler):
    """Shows what `logs.NOTES` is told."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line."""
        say(record.getMessage())


@contextmanager
def _notes_shown() -> Iterator[None]:
    """Show on the terminal, while a command runs, what goes on all the same but somebody should know."""
    handler = _NotesOnTerminal()
    NOTES.addHandler(handler)
    try:
        yield
    finally:
        NOTES.removeHandler(handler)


def say_where_the_log_is() -> None:
    """One line on standard error, if anything was logged."""
    if path := written_log():
        say(f"Log: {path}")


def _os_error(error: OSError) -> str:
    """One line for what the operating system refused."""
    file = f"{error.filename}: " if error.filename else ""
    remedy = "; make room, and the same command continues" if error.errno == errno.ENOSPC else ""
    return f"{file}{error.strerror or error}{remedy}"


def _is_foreseeable(error: BaseException) -> bool:
    """Whether memory or a GPU has failed; told by names, so that torch need not be imported."""
    by_type = type(error).__name__ in ("MemoryError", "OutOfMemoryError", "AcceleratorError")
    return by_type or any(words in str(error) for words in ("CUDA error", "can't allocate memory"))


def _remedy(error: BaseException) -> str:
    """What helps against running out of memory."""
    out_of_memory = "Memory" in type(error).__name__ or "allocate memory" in str(error)
    if not out_of_memory:
        return ""
    return "; out of memory: a smaller --batch-size needs less, or close what else uses it"


class Group(click.Group):
    """A group of commands that are `Command`s."""

    command_class = Command


def say(text: str) -> None:
    """A note for the person watching: standard error, so that --json stays clean."""
    click.echo(harmless(text), err=True)


def print_text(text: str) -> None:
    """Lines on standard output that may quote what a stranger wrote."""
    click.echo(harmless(text))


def harmless(text: str) -> str:
    """Lines of text without anything that steers a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def print_json(value: Any) -> None:
    """The one JSON document of a --json run, on standard output."""
    click.echo(json.dumps(value, indent=1, default=str))


@contextmanager
def progress(total: int, unit: str) -> Iterator[Callable[[int], object]]:
    """A bar with rate and time left on standard error; yields the function that advances it."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, dynamic_ncols=True) as bar:
        yield bar.update


@contextmanager
def byte_progress() -> Iterator[Callable[[int, int], object]]:
    """A bar of bytes whose end is known only once the transfer has begun.

    Yields the function that advances it: it takes the bytes since its last call, and those of the whole
    transfer.
    """
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, unit_divisor=1024, dynamic_ncols=True) as bar:

        def advance(count: int, total: int) -> None:
            bar.total = total
            bar.update(count)

        yield advance


def _remove_empty(folders: Sequence[Path]) -> None:
    """Remove folders, the innermost first, and the empty ones inside it, as far as they hold no file."""
    inside = [Path(path) for path, _, _ in os.walk(folders[0], topdown=False)]
    for folder in dict.fromkeys((*inside, *folders)):
        with suppress(OSError):
            folder.rmdir()


def writable(folder: Path) -> Path:
    """Make a folder and try to write there, before hours of work rely on it.

    Where the command ends without having written anything, whatever was made is removed again.

    Raises:
        WriteError: It cannot be written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    if missing and (command := click.get_current_context(silent=True)):
        command.call_on_close(partial(_remove_empty, missing))
    with writing(folder, "choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder
