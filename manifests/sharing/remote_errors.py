"""Failures of servers and buckets: told in one line, and tried again where they may pass."""

import time
from collections.abc import Callable
from typing import TypeVar

from impure.manifests.base.errors import ImpureError, first_line

Result = TypeVar("Result")

RETRY_DELAYS = (0.5, 2.0, 8.0)  # seconds before trying again

_TRANSIENT_STATUSES = (408, 425, 429)  # refusals of a web server that pass, as those from 500 do


class RemoteError(ImpureError):
    """Something far away could not be read or written.

    Attributes:
        transient: Whether another try may help.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


def with_retries(action: Callable[[], Result]) -> Result:
    """Do something that may fail for a while, again after growing delays.

    Raises:
        RemoteError: It failed for good, or still.
    """
    for delay in RETRY_DELAYS:
        try:
            return action()
        except RemoteError as error:
            if not error.transient:
                raise
        time.sleep(delay)
    return action()


def remote_error(address: str, error: Exception) -> RemoteError:
    """What a filesystem raised, as one line that names the address and the reason."""
    reason, transient = _reason(error)
    return RemoteError(f"{address}: {reason}", transient=transient)


def _reason(error: Exception) -> tuple[str, bool]:
    """What went wrong, and whether another try may help."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(status, int):
        detail = getattr(error, "message", "") or first_line(error)
        transient = status >= 500 or status in _TRANSIENT_STATUSES
        return f"refused with HTTP status {status} ({detail})", transient
    if isinstance(error, FileNotFoundError):
        return "not found", False
    if isinstance(error, PermissionError):
        return f"access denied ({first_line(error)})", False
    if isinstance(error, TimeoutError):
        return "no answer in time", True
    return f"{type(error).__name__}: {first_line(error)}", "Credential" not in type(error).__name__
