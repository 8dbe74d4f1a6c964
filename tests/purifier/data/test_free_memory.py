from pathlib import Path

import pytest
import torch

from impure.purifier.data.free_memory import free_memory

CPU = torch.device("cpu")


def system(root: Path, cgroup: str, files: dict[str, str]) -> Path:
    """A machine with 1,000 KiB to be had, and control groups."""
    meminfo = "MemTotal: 4000 kB\nMemFree: 10 kB\nMemAvailable: 1000 kB\nHugePages_Total: 0\n"
    texts = {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup}
    for name, text in (texts | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def second(group: str, limit: str) -> dict[str, str]:
    stat = "anon 40000\ninactive_file 5000\n"
    return {f"{group}memory.max": limit, f"{group}memory.current": "70000", f"{group}memory.stat": stat}


FIRST = {
    "memory/job/memory.limit_in_bytes": "100000\n",
    "memory/job/memory.usage_in_bytes": "70000\n",
    "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 5000\n",
}


@pytest.mark.parametrize(
    ("cgroup", "files", "left"),
    [
        ("", {}, 1000 << 10),
        ("0::/job/step\n", second("job/step/", "max\n"), 1000 << 10),
        ("0::/job/step\n", second("job/step/", "100000\n"), 35000),
        ("0::/job/step\n", second("job/", "90000\n") | second("job/step/", "100000\n"), 25000),
        ("0::/elsewhere\n", second("", "100000\n"), 35000),
        ("3:cpu:/job\n4:memory:/job\n0::/\n", FIRST, 35000),
    ],
)
def test_limits_of_containers_and_jobs_count(
    tmp_path: Path, cgroup: str, files: dict[str, str], left: int
) -> None:
    assert free_memory(CPU, system(tmp_path, cgroup, files)) == left


def test_this_machine_has_memory() -> None:
    assert free_memory(CPU) > 1 << 20


def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert free_memory(CPU, tmp_path) > 1 << 20
