"""SIGTERM and Ctrl-C ask a training run to save and stop; a second Ctrl-C stops it at once."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from impure.manifests.base.errors import ImpureError

SIGNALS = (signal.SIGTERM, signal.SIGINT)
PATIENCE = 1.0  # seconds after which a second Ctrl-C is meant


class TrainingStopped(ImpureError):
    """A run was asked to stop, and has saved; the message says how to go on."""

    def __init__(self, message: str, number: int) -> None:
        """Take the message, and the signal's number, from which shells make the exit code 128 + number."""
        super().__init__(message)
        self.exit_code = 128 + number


class StopRequest:
    """The signal that asked for a stop, once one has come, and when, by the monotonic clock."""

    received: signal.Signals | None = None
    since: float = 0.0

    def note(self, number: int, _: FrameType | None = None) -> None:
        """Handle a signal: the first is noted, and a person's second Ctrl-C no longer waits.

        Raises:
            KeyboardInterrupt: At a second Ctrl-C; not at once, as torchrun hands on what all processes got.
        """
        if self.received is None:
            self.received = signal.Signals(number)
            self.since = time.monotonic()
        elif number == signal.SIGINT and time.monotonic() - self.since > PATIENCE:
            raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[StopRequest]:
    """Note `SIGNALS` inside the block; outside they have their usual effect.

    Only a main thread gets signals: in any other, nothing is ever noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.note) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
