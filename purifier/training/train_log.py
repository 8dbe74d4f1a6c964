"""A run's log: `log.csv` always, TensorBoard on request."""

import csv
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, writing

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE = "log.csv"


class TrainLog:
    """The run's `log.csv`: means over the updates since the row before."""

    def __init__(self, out: Path, loss_names: Sequence[str], *, tensorboard: bool = False) -> None:
        """Open the log of a run.

        Args:
            out: The run's folder.
            loss_names: Of the losses that `add` takes, in their order.
            tensorboard: Also write event files into `out/tensorboard` (see `check_tensorboard`).
        """
        self.columns = ("epoch", "step", *loss_names, "learning_rate", "images_per_second")
        self._path = out / FILE
        self._folder = out / "tensorboard" if tensorboard else None
        self._events: SummaryWriter | None = None
        self._losses: list[Tensor] = []
        self._images = 0
        self._since = time.monotonic()

    def begin_after(self, step: int) -> None:
        """Drop the rows of steps that a resumed run takes once more, and any that a crash has torn."""
        if self._folder is not None:
            self._events = _open_events(self._folder, step + 1)
        if not self._path.exists():
            return
        with self._path.open(newline="", errors="replace") as file:
            lines = csv.reader(line.replace("\0", "") for line in file)
            written = [dict(zip(self.columns, line, strict=False)) for line in lines]
        rows = [row for row in written if row.get("step", "").isdigit() and len(row) == len(self.columns)]
        rows = [row for row in rows if int(row["step"]) <= step]
        with atomic_path(self._path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(rows)

    def add(self, losses: Tensor, images: int) -> None:
        """Note one update: its losses (k,), on any device, and how many images it saw on all ranks."""
        self._losses.append(losses)
        self._images += images

    def means(self) -> Tensor:
        """Mean losses (k,) of the updates since the last row, on their device."""
        return torch.stack(self._losses).mean(0)

    def clear(self) -> None:
        """Begin the next row."""
        self._losses = []
        self._images = 0
        self._since = time.monotonic()

    def write(self, epoch: int, step: int, rate: float, losses: list[float]) -> None:
        """Append a row.

        Raises:
            WriteError: The file cannot be written.
        """
        speed = round(self._images / max(time.monotonic() - self._since, 1e-9), 2)
        row = dict(zip(self.columns, (epoch, step, *losses, rate, speed), strict=True))
        with writing(self._path):
            with self._path.open("a", newline="") as file:
                writer = csv.DictWriter(file, self.columns)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(row)
            self.curve("train", step, row)

    def curve(self, group: str, step: int, values: dict[str, float]) -> None:
        """Write values by name for TensorBoard, if it was asked for."""
        if self._events is not None:
            for name, value in values.items():
                self._events.add_scalar(f"{group}/{name}", value, step)
            self._events.flush()


def check_tensorboard() -> None:
    """Find out whether TensorBoard is installed, before anything is written.

    Raises:
        InputError: TensorBoard is not installed.
    """
    if find_spec("tensorboard") is None:
        raise InputError("--tensorboard needs `pip install 'impure[tensorboard]'`")


def _open_events(folder: Path, step: int) -> "SummaryWriter":
    """A writer of TensorBoard's event files; what is there from a step on no longer counts."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step)
