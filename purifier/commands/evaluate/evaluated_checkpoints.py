"""The checkpoints that `impure-eval` compares: the column of each, its purifier, its epoch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from impure.manifests.base.errors import InputError

if TYPE_CHECKING:
    from impure.purifier.defences.base.defence import Defence


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedCheckpoint:
    """A defence, where it was read from, and how many epochs it learnt, as far as its config says it."""

    where: Path
    defence: "Defence"
    epoch: str


def open_checkpoints(checkpoints: Sequence[Path]) -> dict[str, EvaluatedCheckpoint]:
    """The defences by the names of their columns: `riae` (or another network) for one, `riae:RUN` of several.

    A run that is called as its network gives no second name: `hgd`, not `hgd:hgd`.

    Raises:
        InputError: One is named twice, or cannot be read.
    """
    from impure.purifier.defences.open_checkpoint import open_checkpoint

    opened: dict[str, EvaluatedCheckpoint] = {}
    for ending, where in endings(checkpoints).items():
        name, defence = open_checkpoint(where)
        column = name if ending in ("", name) else f"{name}:{ending}"
        opened[column] = EvaluatedCheckpoint(where=where, defence=defence, epoch=_epoch(where))
    return opened


def endings(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """What tells the checkpoints apart: the shortest ends of their paths that differ; "" for a single one.

    Raises:
        InputError: Two are the same.
    """
    if len(checkpoints) < 2:
        return dict(zip([""], checkpoints, strict=False))
    parts = [_parts(path) for path in checkpoints]
    if again := [path for path, names in zip(checkpoints, parts, strict=True) if parts.count(names) > 1]:
        raise InputError(f"--checkpoint {again[-1]} is named twice; each is one column")
    depth = 1
    while max(Counter(names[-depth:] for names in parts).values()) > 1:
        depth += 1
    return {"/".join(names[-depth:]): path for names, path in zip(parts, checkpoints, strict=True)}


def _parts(checkpoint: Path) -> tuple[str, ...]:
    """A checkpoint's path in the parts that a column may be named after; a run's `best` is no name alone."""
    from impure.purifier.checkpoints.checkpoint import BEST
    from impure.purifier.riae.pretrained import WEIGHTS

    names = (checkpoint.resolve() if checkpoint.exists() else checkpoint).parts
    names = names[:-1] if names[-1] == WEIGHTS else names
    return (*names[:-2], f"{names[-2]}/{BEST}") if names[-1] == BEST and len(names) > 2 else names


def _epoch(checkpoint: Path) -> str:
    """How many epochs a checkpoint was trained for, where its config says it: that of best weights does."""
    from impure.manifests.base.files import read_json
    from impure.purifier.riae.pretrained import CONFIG, locate

    return str(read_json(locate(checkpoint)[0] / CONFIG).get("epoch", "the last saved"))


def report_folder(checkpoints: Sequence[Path]) -> Path:
    """Where a report goes by default: into the run's folder, where there is one alone."""
    if len(checkpoints) != 1 or not checkpoints[0].exists():
        return Path("impure-report")
    (checkpoint,) = checkpoints
    return (checkpoint if checkpoint.is_dir() else checkpoint.parent) / "report"
