"""Log files: one a process, holding the tracebacks of what the terminal says in one line."""

import logging
import time
import uuid
from contextlib import suppress
from pathlib import Path

LOGGER = logging.getLogger("impure")
LOGGER.addHandler(logging.NullHandler())  # who imports the package decides what is shown, if anything

NOTES = logging.getLogger("impure.notes")
"""Of what goes on all the same, but somebody should know: commands show it on the terminal."""

FOLDER = "_logs"
"""Below a collection's root; no name of a collection's own begins with an underscore."""

_LINE = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _LogFile(logging.Handler):
    """Appends each record to a file, which begins with the first: what a killed process logged is there."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self.path = path
        self.setFormatter(logging.Formatter(_LINE))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        with suppress(OSError):  # on a full disk the work itself says so, and its error is the one to see
            self.path.parent.mkdir(
                exist_ok=True
            )  # not what it lies in: where nothing was made, nothing is left
            with self.path.open("a", encoding="utf-8") as file:
                file.write(self.format(record) + "\n")


def new_run_id() -> str:
    """A name for one run of the program, sortable by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def collection_log(root: Path, run_id: str, process: str = "main") -> Path:
    """Where a process that works on a collection logs to."""
    return root / FOLDER / f"{run_id}-{process}.log"


def collection_logs(root: Path, run_id: str) -> list[Path]:
    """What the processes of a run logged, that of the one that was started first."""
    logs = (root / FOLDER).glob(f"{run_id}-*.log")
    return sorted(logs, key=lambda path: (path != collection_log(root, run_id), path))


def start_log(path: Path) -> None:
    """Log what this package does in this process to a file, and no longer to the one before.

    The file and its folder are made with the first record: where all goes well there is none. What the folder
    lies in is not made.
    """
    stop_log()
    LOGGER.setLevel(logging.INFO)
    LOGGER.addHandler(_LogFile(path.absolute()))


def stop_log() -> None:
    """Log to no file any more."""
    for handler in _files():
        LOGGER.removeHandler(handler)


def log_failure(error: BaseException) -> None:
    """Log why a command ends, with the traceback that its one line does not show."""
    LOGGER.error("failed", exc_info=error)


def written_log() -> Path | None:
    """This process's log; None where nothing was logged, or nothing could be."""
    return next((handler.path for handler in _files() if handler.path.exists()), None)


def _files() -> list[_LogFile]:
    return [handler for handler in LOGGER.handlers if isinstance(handler, _LogFile)]
