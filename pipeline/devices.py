"""Devices to compute on: opening one, counting CPU cores, and giving each worker its own."""

import os

import torch

from impure.manifests.base.errors import InputError, first_line


def open_device(name: str, threads: int) -> torch.device:
    """Resolve `auto`, check that the device can be used, and set the number of CPU threads.

    Float32 rounding on the CPU depends on the number of threads, so it is always set explicitly.

    Raises:
        InputError: The device cannot be used.
    """
    torch.set_num_threads(threads)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used: {first_line(error)}") from error
    return torch.device(name)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(device: torch.device, threads: int) -> int:
    """How many workers: one for each GPU, or for each `threads` CPU cores."""
    return torch.cuda.device_count() if device.type == "cuda" else max(cores() // threads, 1)


def device_of(device: torch.device, number: int) -> torch.device:
    """The device of worker `number`: the GPUs in turn, unless the user named one."""
    if device.type != "cuda" or device.index is not None:
        return device
    return torch.device("cuda", number % torch.cuda.device_count())
