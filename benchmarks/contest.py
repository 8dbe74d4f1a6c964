"""Times contenders side by side on one device, and puts what comes of it into tables."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from impure.manifests.base.tables import markdown_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something to time, and how many units of work it does."""

    name: str
    work: Callable[[], object]
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures of one contender.

    Attributes:
        name: the contender's.
        units: of work, such as gradient evaluations.
        seconds: of each round.
        ratio: time per unit over the baseline's in the same round; the median of the rounds.
        images_per_second: from the median round.
        gpu: on a GPU, more figures by name.
    """

    name: str
    units: int
    seconds: list[float]
    ratio: float
    images_per_second: float
    gpu: dict[str, float]

    @property
    def median(self) -> float:
        """Seconds of the median round."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """A value and the limit that it should keep."""

    text: str
    value: float
    limit: float
    met: bool

    def __str__(self) -> str:
        return f"- {'met' if self.met else 'MISSED'}: {self.text} {self.limit:.4g}: {self.value:.4g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The outcome for one attack; `grad_evals` are ours for each image."""

    attack: str
    unit: str
    note: str
    params: dict[str, float | int | bool]
    grad_evals: list[int]
    rows: list[Row]
    goals: list[Goal]

    def __str__(self) -> str:
        gpu = list(self.rows[0].gpu)
        header = ["contender", "ms", f"{self.unit}s", "ratio", "images/s", *gpu]
        cells = [
            [row.name, f"{1000 * row.median:.1f}", row.units, f"{row.ratio:.3f}",
             f"{row.images_per_second:.3g}", *(f"{row.gpu[name]:.3g}" for name in gpu)]
            for row in self.rows
        ]  # fmt: skip
        parts = [
            f"## {self.attack}",
            self.note,
            markdown_table(header, cells),
            "\n".join(map(str, self.goals)),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"


def repeat(times: int, work: Callable[[], object]) -> None:
    """Do the work several times."""
    for _ in range(times):
        work()


def compete(
    contenders: Sequence[Contender],
    device: torch.device,
    *,
    images: int,
    rounds: int,
    repeats: int = 1,
    peak: float | None = None,
) -> list[Row]:
    """Time contenders in turn.

    Args:
        contenders: the first is the baseline; all are warm.
        device: where they work.
        images: how many each of them works on.
        rounds: timings of each.
        repeats: how often the work is done for one timing.
        peak: the device's FLOP/s if it is a GPU.
    """
    times = in_turns({each.name: each.work for each in contenders}, device, rounds, repeats)
    base = contenders[0]
    return [
        Row(
            name=each.name,
            units=each.units,
            seconds=times[each.name],
            ratio=statistics.median(
                own * base.units / (bare * each.units)
                for own, bare in zip(times[each.name], times[base.name], strict=True)
            ),
            images_per_second=images / statistics.median(times[each.name]),
            gpu=_gpu(each.work, statistics.median(times[each.name]), device, peak) if peak else {},
        )
        for each in contenders
    ]


def in_turns(
    works: Mapping[str, Callable[[], object]], device: torch.device, rounds: int, repeats: int = 1
) -> dict[str, list[float]]:
    """Seconds of each work in each round; who begins changes from round to round."""
    names = list(works)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in (*names[first:], *names[:first]):
            times[name].append(timed(works[name], device, repeats))
    return times


def timed(work: Callable[[], object], device: torch.device, repeats: int = 1) -> float:
    """Seconds from an idle device to an idle device, the host's share included: the mean of the repeats."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else torch.cpu.synchronize
    synchronize(device)
    begun = time.perf_counter()
    repeat(repeats, work)
    synchronize(device)
    return (time.perf_counter() - begun) / repeats


def _gpu(work: Callable[[], object], seconds: float, device: torch.device, peak: float) -> dict[str, float]:
    """Work twice more: for the memory it takes, and to count its arithmetic."""
    torch.cuda.reset_peak_memory_stats(device)
    work()
    memory = torch.cuda.max_memory_allocated(device)
    with Flops() as flops:
        work()
    return {"peak MiB": memory / 2**20, "share of peak": flops.total / seconds / peak}


class Flops(TorchDispatchMode):
    """Counts the FLOPs of convolutions and matrix products.

    PyTorch's own FlopCounterMode also tracks modules, which fails where gradients are asked of a leaf.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=out)
        return out


def device_name(device: torch.device) -> str:
    """What the work runs on."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def matmul_rate(device: torch.device, dtype: torch.dtype, side: int = 8192, times: int = 20) -> float:
    """Measure a GPU's large matrix products, in the precision that is switched on; FLOP/s."""
    matrix = torch.randn(side, side, device=device, dtype=dtype)
    out = torch.empty_like(matrix)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    repeat(3, lambda: torch.mm(matrix, matrix, out=out))
    begin.record()
    repeat(times, lambda: torch.mm(matrix, matrix, out=out))
    end.record()
    end.synchronize()
    return float(2 * side**3 * times / (begin.elapsed_time(end) / 1000))
