"""Judging stored pairs: which of them, in which batches, and what a target answers to defended copies."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CLEAN, Committed
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import Pair, list_pairs

#: Order of the attacks in the paper's Table 1; others follow by name.
TABLE_ORDER = (CLEAN, "fgsm", "cw", "deepfool", "pgd", "mifgsm", "difgsm", "mdifgsm", "apgd-ce", "apgd-dlr")
NO_CLASS = -1  # the answer where an image or its largest logit is not finite: always wrong

Combine = Literal["average", "vote", "worst"]


class Group(NamedTuple):
    """The samples of one target and one attack; of `clean` each distinct clean image once."""

    target: str
    attack: str
    pairs: Sequence[Pair]


def choose(
    units: Sequence[Committed], targets: Mapping[str, nn.Module], limit: int | None = None
) -> list[Group]:
    """The groups to judge, by target and in the order of Table 1, `clean` first.

    Args:
        units: The shards.
        targets: Classifiers by the names that they have in the shards.
        limit: At most this many samples of a group (see `evenly`).

    Raises:
        InputError: There is no sample, `limit` is below 1, or a target is not given.
    """
    if limit is not None and limit < 1:
        raise InputError(f"at most {limit} images of an attack are none to judge; allow at least 1")
    pairs = list_pairs(units)
    if not pairs:
        raise InputError("nothing to judge: the chosen shards hold no sample")
    found: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs.distinct_clean():
        found.setdefault((pair.unit.unit.target, CLEAN), []).append(pair)
    for pair in pairs.attacked():
        found.setdefault((pair.unit.unit.target, pair.unit.unit.attack), []).append(pair)
    if missing := sorted({target for target, _ in found} - targets.keys()):
        raise InputError(f"the shards are of target {missing[0]!r}; given are {', '.join(targets) or 'none'}")
    order = sorted(found, key=lambda key: (key[0], _table_place(key[1])))
    return [Group(*key, evenly(found[key], limit)) for key in order]


def _table_place(attack: str) -> tuple[int, str]:
    """Sort key of an attack's column."""
    return TABLE_ORDER.index(attack) if attack in TABLE_ORDER else len(TABLE_ORDER), attack


def evenly(pairs: Sequence[Pair], limit: int | None) -> Sequence[Pair]:
    """At most `limit` pairs in their order, evenly from all classes; attacks of one image set give the same.

    Steps go through the pairs by class and hash, not as they are stored: there classes may take turns, and
    every fifth pair be of two classes alone.
    """
    if limit is None or limit >= len(pairs):
        return pairs
    order = sorted(range(len(pairs)), key=lambda index: (pairs[index].label, pairs[index].clean_sha256))
    return [pairs[index] for index in sorted(order[step * len(order) // limit] for step in range(limit))]


def batches(pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
    """Batches of one image size, in the given order."""
    batch: list[Pair] = []
    for pair in pairs:
        full = len(batch) == size
        if batch and (full or (pair.height, pair.width) != (batch[0].height, batch[0].width)):
            yield batch
            batch = []
        batch.append(pair)
    if batch:
        yield batch


class Loaded(NamedTuple):
    """A batch on the device: images in [0,1] (B, 3, H, W), the stored bytes over 255, and labels (B,)."""

    clean: Tensor
    attacked: Tensor
    labels: Tensor


def load(reader: PairReader, batch: Sequence[Pair], attack: str, device: torch.device) -> Loaded:
    """Read a batch of one image size.

    Raises:
        InputError: See `PairReader.read`.
    """
    labels = torch.tensor([pair.label for pair in batch], device=device)
    if attack == CLEAN:
        clean = _unit_range([reader.clean(pair) for pair in batch], device)
        return Loaded(clean, clean, labels)
    adversarial, originals = zip(*map(reader.read, batch), strict=True)
    return Loaded(_unit_range(originals, device), _unit_range(adversarial, device), labels)


def _unit_range(images: Sequence[Tensor], device: torch.device) -> Tensor:
    """Bytes (3, H, W) each as one batch in [0,1] on the device."""
    return torch.stack(list(images)).to(device).float() / 255


def answer(target: nn.Module, images: Tensor) -> Tensor:
    """The classes (B,) that a target sees; `NO_CLASS` where the image or its largest logit is not finite.

    Args:
        target: RGB in [0,1] (B, 3, H, W) in, logits (B, classes) out.
        images: What it is shown.
    """
    logits: Tensor = target(images.nan_to_num(0, 0, 0))
    finite = images.flatten(1).isfinite().all(1) & logits.amax(1).isfinite()  # -inf only rules a class out
    return logits.argmax(1).masked_fill(~finite, NO_CLASS)


def combined(answers: Tensor, labels: Tensor, combine: Combine) -> Tensor:
    """One answer for each image out of the answers to its draws.

    Args:
        answers: (draws, B).
        labels: (B,).
        combine: `vote`: the class seen most often, among equals the one drawn first. `worst`: the first wrong
            answer if there is one, so that only images right in every draw are right. `average` was done on
            the images: the one answer.

    Returns:
        (B,).
    """
    if combine == "vote":
        votes = (answers[:, None] == answers[None]).sum(1)  # draws, B
        return answers.gather(0, votes.argmax(0, keepdim=True))[0]  # argmax takes the first of equals
    if combine == "worst":
        wrong = (answers != labels).byte()
        return answers.gather(0, wrong.argmax(0, keepdim=True))[0]
    return answers[0]


def batch_seed(seed: int, batch: int, draw: int) -> int:
    """Seed of one draw of one batch of a group: the first draw is the same however many follow."""
    return int(np.random.SeedSequence([seed, batch, draw]).generate_state(1, np.uint64)[0])


def release_resize(images: Tensor) -> Tensor:
    """What the authors' test script does to purified images before the target sees them.

    224 pixels: 32 black pixels on every side, then back to 224. 299: enlarged to 331. Sides of another length
    are padded by a seventh, as 224 are. Bilinear, without antialiasing (`data_process/main_advpur.py` of the
    release with `--val_preprocess`).

    Args:
        images: RGB in [0,1] (B, 3, H, W).

    Returns:
        The same, or (B, 3, 331, 331).
    """
    height, width = images.shape[2:]
    if height == width == 299:
        return F.interpolate(images, size=(331, 331), mode="bilinear", align_corners=False)
    above, beside = round(height / 7), round(width / 7)
    padded = F.pad(images, (beside, beside, above, above))
    return F.interpolate(padded, size=(height, width), mode="bilinear", align_corners=False)
