"""A watch over an attack: what makes the host wait for a device is refused, or counted if allowed."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from impure.pipeline.attacks.engine.batch_rows import rows_where

WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_", "equal", "is_nonzero")
"""How the operations of ATen begin whose result, or its shape, the host must have before it goes on."""

FETCHING = ("tolist", "cpu")
"""Methods that wait for a device; between tensors of the CPU no operation of ATen shows."""


class Waited(AssertionError):
    """The host would have waited for the device."""


class SyncWatch:
    """Whether waiting is refused at the moment, and how often `rows_where` was allowed to.

    On a GPU PyTorch's own debug mode refuses; elsewhere the names above do.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.refusing = False
        self.waits = 0

    def refuse(self, refusing: bool) -> None:
        """Refuse from now on, or no longer."""
        self.refusing = refusing
        if self.on_gpu:
            torch.cuda.set_sync_debug_mode("error" if refusing else "default")

    def rows_where(self, mask: Tensor) -> list[int]:
        """In place of the function of this name, which may wait."""
        self.waits += 1
        self.refuse(False)
        rows = rows_where(mask)
        self.refuse(True)
        return rows

    def check(self, name: str, arguments: Any) -> None:
        """Look at an operation before it runs."""
        if not self.refusing:
            return
        index = arguments[1] if name.startswith("index") and len(arguments) > 1 else None
        if isinstance(index, list | tuple) and any(_is_mask(part) for part in index):
            raise Waited(f"{name} by a mask")
        if name.startswith(WAITING) or name in FETCHING:
            raise Waited(name)


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


class _Operations(TorchDispatchMode):
    def __init__(self, watch: SyncWatch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.watch.check(func.overloadpacket.__name__, args)
        return func(*args, **(kwargs or {}))


class _Methods(TorchFunctionMode):
    def __init__(self, watch: SyncWatch) -> None:
        super().__init__()
        self.watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in FETCHING:
            self.watch.check(func.__name__, args)
        return func(*args, **(kwargs or {}))


@contextmanager
def refusing_to_wait(device: torch.device) -> Iterator[SyncWatch]:
    """Refuse to wait for a device, but in `rows_where`."""
    watch = SyncWatch(device)
    users = [
        module
        for name, module in sys.modules.items()
        if name.startswith("impure.pipeline.attacks") and getattr(module, "rows_where", None) is rows_where
    ]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as modes:
        for mode in () if watch.on_gpu else (_Operations(watch), _Methods(watch)):
            modes.enter_context(mode)
        for module in users:
            patch.setattr(module, "rows_where", watch.rows_where)
        watch.refuse(True)
        try:
            yield watch
        finally:
            watch.refuse(False)
