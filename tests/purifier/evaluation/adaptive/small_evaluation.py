"""A small evaluation of any defence before a toy classifier, and defences that mask their gradients."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.base.random_defence import RandomDefence
from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig
from impure.purifier.evaluation.adaptive.run_adaptive import evaluate_adaptively, subject_runs
from impure.purifier.evaluation.adaptive.subject_run import SubjectResult, SubjectRun

CPU = torch.device("cpu")
CONFIG = AdaptiveConfig(eps=(16, 100), steps=8, eot=2, images=24, samples=(3,), probe=24, batch_size=24)


class Curved(nn.Module):
    """Two classes by brightness, with a gradient at every pixel that depends on the image."""

    def forward(self, images: Tensor) -> Tensor:
        light = images.square().mean((1, 2, 3)) - 0.25
        return torch.stack([-light, light], dim=1)


class Shattered(Defence):
    """A ripple that no eye sees, and whose gradient is all noise."""

    source = "fixture"

    def defend(self, images: Tensor) -> Tensor:
        return (images + 1e-3 * torch.sin(1e5 * images)).clamp(0, 1)


class Erratic(RandomDefence):
    """Shows one value in thirty, others each time: gradients of two draws have little in common."""

    source = "fixture"

    def defend(self, images: Tensor) -> Tensor:
        shown = (self.normal(self.rows(images), *images.shape[1:]) > 1.83).to(images)
        return images * shown + 0.5 * (1 - shown)


class Rounded(Defence):
    """Rounds without a way back, but for a hair."""

    source = "fixture"

    def defend(self, images: Tensor) -> Tensor:
        return (images * 31).round() / 31


def runs_of(
    shards: list[CommittedShard], out: Path, defence: Defence, name: str = "toy", **changes: Any
) -> list[SubjectRun]:
    config = replace(CONFIG, **changes)
    return subject_runs(shards, {"toy": Curved()}, {name: defence}, config, out, device=CPU)


def run(
    shards: list[CommittedShard], out: Path, defence: Defence, name: str = "toy", **changes: Any
) -> SubjectResult:
    (found,) = evaluate_adaptively(runs_of(shards, out, defence, name, **changes), CPU)
    return found


def failed(found: SubjectResult) -> set[str]:
    return {check.name for check in found.checks if not check.passed}


def timeless(found: SubjectResult) -> SubjectResult:
    rows = tuple(replace(row, seconds=0.0) for row in found.rows)
    return replace(found, rows=rows)
