"""Runs an adaptive evaluation, defence by defence, and goes on where one was stopped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.adaptive.adaptive_config import AdaptiveConfig
from impure.purifier.evaluation.adaptive.subject_run import SubjectResult, SubjectRun
from impure.purifier.evaluation.select import evenly, select_groups


def evaluate_adaptively(
    runs: Sequence[SubjectRun], device: torch.device, *, progress: bool = False
) -> list[SubjectResult]:
    """Attack every defence before every target, on the shards' clean images.

    Batches that are in the evaluation's folder already are not attacked again.

    Args:
        runs: See `subject_runs`.
        device: Where to compute, in float32.
        progress: Show a bar on standard error.

    Raises:
        InputError: An attack is unknown or cannot be run on a target.
        WriteError: The folder cannot be written.
    """
    total = sum(run.images for run in runs)
    bar: Any = tqdm(total=total, unit="img", disable=not progress)
    with bar:
        return [run.run(device, bar) for run in runs]


def subject_runs(
    shards: Sequence[CommittedShard],
    classifiers: Mapping[str, nn.Module],
    defences: Mapping[str, Defence],
    config: AdaptiveConfig,
    out: Path,
    *,
    device: torch.device,
) -> list[SubjectRun]:
    """Every defence before every target of the shards.

    Args:
        shards: The shards, of any splits; only their clean images are used.
        classifiers: By the target's name in the shards: RGB in [0,1] in, logits out.
        defences: By the names of their columns.
        config: How to attack.
        out: The evaluation's folder.
        device: Where to compute.

    Raises:
        InputError: There is no clean image.
    """
    groups = [group for group in select_groups(shards, classifiers) if group.attack == CLEAN]
    return [
        SubjectRun(
            group._replace(pairs=evenly(group.pairs, config.images)),
            len(group.pairs),
            name,
            defence.to(device).eval(),
            classifiers[group.target].to(device).eval(),
            config,
            out,
        )
        for group in groups
        for name, defence in defences.items()
    ]
