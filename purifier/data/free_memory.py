"""How much memory can still be had, on a GPU or in this machine."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

#: Linux's control groups, with which containers and Slurm set limits, by the head of a line in
#: /proc/self/cgroup: version 2 and version 1. Their folder; the files of limit and use; in memory.stat, the
#: pages of files that are forgotten first.
_GROUPS = {
    "0::": ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    "memory:": (
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
}


def free_memory(device: torch.device, root: Path = Path("/")) -> int:
    """Bytes that can be had on a device: of a GPU's memory, or of the machine's as far as limits allow."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([_free_ram(root / "proc/meminfo"), *_left_by_groups(root)])


def _free_ram(meminfo: Path) -> int:
    """Bytes that can be taken without swapping; where the system does not say, all that there are."""
    if meminfo.exists():
        return _values(meminfo)["MemAvailable:"] << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _left_by_groups(root: Path) -> Iterator[int]:
    """Bytes that this process's control groups, and those above them, leave below their limits."""
    own = root / "proc/self/cgroup"
    for line in own.read_text().splitlines() if own.exists() else []:
        head, _, group = line.partition("/")
        kind = "0::" if head == "0::" else head.partition(":")[2]
        if kind in _GROUPS:
            base, limit, used, files = _GROUPS[kind]
            for folder in (root / base / group, *(root / base / group).parents):
                yield from _left(folder, limit, used, files)


def _left(folder: Path, limit: str, used: str, files: str) -> Iterator[int]:
    """Bytes below one group's limit, if it has one; pages of files that would be forgotten count as free."""
    if (folder / used).is_file() and (most := (folder / limit).read_text().strip()).isdigit():
        yield int(most) - int((folder / used).read_text()) + _values(folder / "memory.stat")[files]


def _values(file: Path) -> dict[str, int]:
    """Numbers by name, one a line."""
    return {
        words[0]: int(words[1]) for words in map(str.split, file.read_text().splitlines()) if len(words) > 1
    }
