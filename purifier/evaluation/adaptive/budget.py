"""Chooses images, steps and draws of an adaptive evaluation so that it fits a time, once for each folder."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.file_lock import file_lock
from impure.manifests.base.files import read_json, write_json, writing
from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig, Cell
from impure.purifier.evaluation.adaptive.cells import QUERIES_A_STEP, SQUARE, cells_of
from impure.purifier.evaluation.adaptive.pass_cost import Costs, seconds_of
from impure.purifier.evaluation.adaptive.subject_run import SubjectRun

FALL = (
    ("images", 100), ("probe", 32), ("steps", 20), ("eot", 5), ("images", 32), ("probe", 16), ("steps", 10),
    ("eot", 2), ("images", 8), ("probe", 8), ("steps", 4), ("eot", 1),
)  # fmt: skip
"""What is halved in turn, and down to where, until the evaluation fits."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def read_duration(text: str) -> float:
    """The seconds of a duration such as 90s, 10m or 2h.

    Raises:
        InputError: It is none, or zero.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _SECONDS[match[2]] if match else 0.0
    if seconds <= 0:
        raise InputError(f"--budget {text!r}: write a number with s, m or h behind it, such as 10m")
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What was chosen, as the evaluation's folder keeps it.

    Attributes:
        images, probe, steps, eot: See `AdaptiveConfig`.
        seconds: That it was expected to take.
        gradient_ms: Milliseconds that a gradient of an image takes, by defence and target.
    """

    images: int
    probe: int
    steps: int
    eot: int
    seconds: float
    gradient_ms: dict[str, float]

    def applied_to(self, config: AdaptiveConfig) -> AdaptiveConfig:
        """The evaluation with what was chosen."""
        return replace(config, images=self.images, probe=self.probe, steps=self.steps, eot=self.eot)

    def told(self, budget: str) -> str:
        """One line for people."""
        gradients = ", ".join(f"{taken:.3g} ms through {name}" for name, taken in self.gradient_ms.items())
        return (
            f"budget {budget}: {self.images} images, {self.steps} steps of {self.eot} draws, checks on "
            f"{self.probe} images; about {_minutes(self.seconds)} (a gradient of an image takes {gradients})"
        )


def _minutes(seconds: float) -> str:
    """A time for people."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def choose(
    runs: Sequence[SubjectRun],
    config: AdaptiveConfig,
    budget: float,
    out: Path,
    *,
    device: torch.device,
    keep: Collection[str] = (),
) -> Choice:
    """What fits a budget: chosen once and kept in the folder, so that a resumed evaluation stays the same.

    Args:
        runs: Of the whole evaluation.
        config: What is asked for, of which no more is done.
        budget: Seconds for all of it.
        out: The evaluation's folder.
        device: Where to compute.
        keep: Fields of the config that the user has set, which stay.

    Raises:
        InputError: The kept choice cannot be read.
        WriteError: The folder cannot be written.
    """
    subjects = [asdict(run.subject) for run in runs]
    asked = {"config": asdict(config), "budget": budget, "keep": sorted(keep), "subjects": subjects}
    path = out / f"budget-{digest(asked)[:12]}.json"
    with writing(out), file_lock(out / "budget.lock"):  # another process may be measuring
        if not path.exists():
            costs = [run.costs(seconds_of, device, config.batch_size) for run in runs]
            write_json(path, {"chosen": asdict(_fitting(runs, costs, config, budget, keep)), "asked": asked})
    return _read(path)


def _read(path: Path) -> Choice:
    """A kept choice."""
    try:
        return Choice(**read_json(path)["chosen"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: no choice of images and steps; delete it to choose anew") from error


def _fitting(
    runs: Sequence[SubjectRun],
    costs: Sequence[Costs],
    config: AdaptiveConfig,
    budget: float,
    keep: Collection[str],
) -> Choice:
    """The first candidate that fits, or the least of all."""
    for candidate in _candidates(config, keep):
        seconds = sum(expected(candidate, run, cost) for run, cost in zip(runs, costs, strict=True))
        if seconds <= budget:
            break
    taken = {
        f"{run.subject.defence} and {run.subject.target}": 1000 * cost.defended.forward
        + 1000 * cost.defended.backward
        for run, cost in zip(runs, costs, strict=True)
    }
    sizes = {name: getattr(candidate, name) for name in ("images", "probe", "steps", "eot")}
    return Choice(**sizes, seconds=seconds, gradient_ms=taken)


def _candidates(config: AdaptiveConfig, keep: Collection[str]) -> Iterator[AdaptiveConfig]:
    """What is asked for, then less and less of it."""
    yield config
    for name, least in FALL:
        while name not in keep and getattr(config, name) > least:
            changes: dict[str, Any] = {name: max(getattr(config, name) // 2, least)}
            config = replace(config, **changes)
            yield config


def expected(config: AdaptiveConfig, run: SubjectRun, seconds: Costs) -> float:
    """Seconds that one defence before one target takes at most, from those of a pass."""
    subject = replace(run.subject, images=min(config.images, run.subject.available))
    return sum(
        cell.images * (seconds.of(cell, *_passes(cell)) + cell.samples * seconds.defended.forward)
        for cell in cells_of(config, subject)
    )


def _passes(cell: Cell) -> tuple[float, float]:
    """Forward passes and gradients of an image, at most."""
    if cell.knowledge == "none":
        return 0, 0
    if cell.attack == SQUARE:
        return QUERIES_A_STEP * cell.steps * cell.eot, 0
    gradients = max(cell.steps, 1) * cell.restarts * cell.eot
    return gradients + cell.eot, gradients
