"""Sets the thresholds of detectors on clean images that are evaluated nowhere else."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.shard_id import CLEAN
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import list_pairs
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.predict import load
from impure.purifier.evaluation.select import batches, evenly

MOST_IMAGES = 2000  # enough for false positives of one in a thousand, and soon done


def set_thresholds(
    defences: Mapping[str, nn.Module],
    shards: Sequence[CommittedShard],
    target: str,
    classifier: nn.Module,
    *,
    batch_size: int,
    device: torch.device,
) -> list[str]:
    """Calibrate the defences that have detectors, on clean images of one target.

    Args:
        defences: By name; those without detectors are left alone.
        shards: Of the split validation.
        target: Name of the classifier in the shards.
        classifier: RGB in [0,1] in, logits out; on the device.
        batch_size: Images at a time.
        device: Where to compute.

    Returns:
        What was calibrated on what, in words.

    Raises:
        InputError: A defence has detectors, and there is no clean image of the target.
    """
    detecting = {
        name: defence
        for name, defence in defences.items()
        if isinstance(defence, Defence) and defence.detects
    }
    if not detecting:
        return []
    pairs = [pair for pair in list_pairs(shards).distinct_clean() if pair.shard.shard_id.target == target]
    if not pairs:
        raise InputError(
            f"defence {next(iter(detecting))!r} sets its thresholds on clean images of the split validation, "
            f"and there are none of {target!r}; generate them (--split val), or leave it out"
        )
    chosen = evenly(pairs, MOST_IMAGES)
    reader = PairReader()
    for defence in detecting.values():
        clean = (load(reader, batch, CLEAN, device).clean for batch in batches(chosen, batch_size))
        defence.calibrate(clean, classifier)
    return [f"{name} on {target}: {len(chosen)} clean images of validation" for name in detecting]
