"""Names the photographs that could not be read in pre-training, each once, and counts them."""

import sys
from collections.abc import Iterable

from tqdm import tqdm

from impure.manifests.base.logs import LOGGER
from impure.manifests.commands.console import say

NAMED = 10  # on the terminal; the log names all


class SkippedPhotos:
    """What this process has named so far; others stood in for them (see `PhotoDataset`)."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()

    def add(self, reasons: Iterable[str]) -> None:
        """Name those that were not named before."""
        for reason in reasons:
            if reason in self._reasons:
                continue
            self._reasons.add(reason)
            LOGGER.warning("skipped %s", reason)
            if len(self._reasons) <= NAMED:
                with tqdm.external_write_mode(file=sys.stderr):
                    say(f"skipped {reason}")

    def say_how_many(self) -> None:
        """One line, if there were any."""
        if count := len(self._reasons):
            what = "a photograph" if count == 1 else f"{count} photographs"
            say(f"{what} could not be read; the next readable one stood in, and the run's logs/ names each")
