"""Which images of a batch go on, known to the host: the one place where an attack waits for its device."""

from collections.abc import Sequence

import torch
from torch import Tensor


def rows_where(mask: Tensor) -> list[int]:
    """Return the rows where a mask (N,) is set.

    Waits for the device. An attack may do so when it begins another attempt, and every few steps; anything
    else that waits (`item`, `nonzero`, `bool`, indexing by a mask) is an error, see tests.
    """
    return [row for row, is_set in enumerate(mask.tolist()) if is_set]


def on_device(rows: Sequence[int], device: torch.device) -> Tensor:
    """Return rows as an index, int64, (N,); the host does not wait until the device has them."""
    return torch.tensor(rows, dtype=torch.int64).to(device, non_blocking=True)


def may_leave(steps_done: int, device: torch.device) -> bool:
    """Whether finished images leave the batch after so many steps.

    On the CPU, where nothing has to be waited for, after each. Elsewhere after 1, 2, 3, 4, 6, 8, 12, 16, …
    steps: the host waits 11 times in 50 steps, and no image stays for more than half the steps it took.
    """
    return device.type == "cpu" or steps_done % (1 << max(steps_done.bit_length() - 2, 0)) == 0
