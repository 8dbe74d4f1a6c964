"""Evaluation: accuracy of targets behind defences, on the stored bytes (paper, Table 1)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from impure.manifests.collection import CLEAN, Committed
from impure.manifests.config import digest
from impure.manifests.errors import InputError
from impure.manifests.pixels import Pixels
from impure.purifier.data import Pair, PairReader, attacked, distinct_clean, list_pairs, pairs_digest
from impure.purifier.defences import Defence

#: Order of the attacks in the paper's Table 1; others follow by name.
TABLE_ORDER = (CLEAN, "fgsm", "cw", "deepfool", "pgd", "mifgsm", "difgsm", "mdifgsm", "apgd-ce", "apgd-dlr")
Z_95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell of Table 1: one target, one attack (or `clean`), one defence."""

    target: str
    attack: str
    defence: str
    n: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Share of right answers."""
        return self.correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.correct, self.n)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """Unweighted mean accuracy of a target and defence over the attacks, without `clean`."""

    target: str
    defence: str
    attacks: int
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sample for the report's image strips: images (H, W, 3), and the class predicted for each."""

    target: str
    attack: str
    key: str
    label: int
    images: Mapping[str, Pixels]  # "clean", "adversarial", and each defence but `none`
    predictions: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, and under which conditions."""

    rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    conditions: Mapping[str, Any]

    @property
    def means(self) -> tuple[Mean, ...]:
        """The mean over the attacks for each target and defence, in the order of the rows."""
        groups: dict[tuple[str, str], list[float]] = {}
        for row in self.rows:
            if row.attack != CLEAN:
                groups.setdefault((row.target, row.defence), []).append(row.accuracy)
        return tuple(
            Mean(target=target, defence=defence, attacks=len(found), accuracy=sum(found) / len(found))
            for (target, defence), found in groups.items()
        )


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927).

    Raises:
        InputError: `n` is not positive, or `correct` is not between 0 and `n`.
    """
    if n < 1 or not 0 <= correct <= n:
        raise InputError(f"no interval for {correct} right of {n}")
    share, z2 = correct / n, Z_95**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def evaluate(
    units: Sequence[Committed],
    targets: Mapping[str, nn.Module],
    defences: Mapping[str, nn.Module],
    *,
    batch_size: int = 32,
    device: torch.device,
    seed: int = 0,
    progress: bool = False,
) -> Evaluation:
    """Measure every defence on every attack of every target, each on shards made for that target.

    One draw for each image; random defences (those with `reseed`) begin anew from `seed` for each attack.
    `clean` is each distinct clean image of a target once.

    Args:
        units: The shards, of any splits.
        targets: Classifier by the name that it has in the shards: RGB in [0,1] in, logits out.
        defences: Modules from RGB in [0,1] to the same, by name.
        batch_size: Images at a time; on which the noise of random defences depends.
        device: Where to compute, in float32.
        seed: Of the random defences.
        progress: Show a bar on standard error.

    Raises:
        InputError: A target of the shards is not among `targets`, a shard is inconsistent, or all is empty.
    """
    pairs = list_pairs(units)
    if not pairs or not defences:
        raise InputError("nothing to evaluate: the chosen shards hold no sample, or no defence is named")
    if missing := sorted({pair.unit.unit.target for pair in pairs} - targets.keys()):
        raise InputError(f"the shards are of target {missing[0]!r}; given are {', '.join(targets) or 'none'}")
    judge = _Judge(defences, batch_size, device, seed)
    rows: list[Row] = []
    examples: list[Example] = []
    groups = list(_groups(pairs))
    total = sum(len(group) for _, _, group in groups)
    with torch.no_grad(), tqdm(total=total, unit="img", disable=not progress) as bar:
        for name, attack, group in groups:
            bar.set_postfix_str(f"{name} {attack}")
            found, example = judge.group(targets[name].to(device).eval(), name, attack, group, bar)
            rows += found
            examples.append(example)
    conditions = {
        "draws": 1,
        "seed": seed,
        "batch_size": batch_size,
        "device": device.type,
        "splits": sorted({pair.unit.unit.split for pair in pairs}),
        "pixels_sha256": pairs_digest(pairs),
        "collections": sorted({digest(unit.rows()[1]) for unit in units}),
        "threat_model": "black-box: the stored images were made against the bare target",
    }
    return Evaluation(rows=tuple(rows), examples=tuple(examples), conditions=conditions)


def _groups(pairs: Sequence[Pair]) -> Iterator[tuple[str, str, list[Pair]]]:
    """(target, attack, its samples) in the order of Table 1; `clean` always comes first."""
    for target in sorted({pair.unit.unit.target for pair in pairs}):
        own = [pair for pair in pairs if pair.unit.unit.target == target]
        yield target, CLEAN, distinct_clean(own)
        for attack in sorted({pair.unit.unit.attack for pair in attacked(own)}, key=_table_place):
            yield target, attack, [pair for pair in own if pair.unit.unit.attack == attack]


def _table_place(attack: str) -> tuple[int, str]:
    """Sort key of an attack's column."""
    return TABLE_ORDER.index(attack) if attack in TABLE_ORDER else len(TABLE_ORDER), attack


class _Judge:
    """Runs one group of samples through every defence and a target."""

    def __init__(
        self, defences: Mapping[str, nn.Module], batch_size: int, device: torch.device, seed: int
    ) -> None:
        self._defences = {name: defence.to(device).eval() for name, defence in defences.items()}
        self._batch_size, self._device, self._seed = batch_size, device, seed
        self._reader = PairReader()

    def group(
        self, target: nn.Module, name: str, attack: str, pairs: Sequence[Pair], bar: "tqdm[Any]"
    ) -> tuple[list[Row], Example]:
        """Rows for every defence, and the group's first sample as an example."""
        correct = dict.fromkeys(self._defences, 0)
        example: Example | None = None
        for defence in self._defences.values():
            if isinstance(defence, Defence):
                defence.reseed(self._seed)
        for batch in _batches(pairs, self._batch_size):
            clean, adversarial, labels = self._load(batch, attack)
            defended = {each: defence(adversarial) for each, defence in self._defences.items()}
            answers = {each: target(images).argmax(1) for each, images in defended.items()}
            for each, answer in answers.items():
                correct[each] += int((answer == labels).sum())
            if example is None:
                images = {"clean": clean, "adversarial": adversarial, **defended}
                bare = {each: target(images[each][:1]).argmax(1) for each in ("clean", "adversarial")}
                example = _example(name, attack, batch[0], images, {**bare, **answers})
            bar.update(len(batch))
        if example is None:
            raise InputError(f"{name}/{attack}: no sample to evaluate")
        rows = [
            Row(target=name, attack=attack, defence=each, n=len(pairs), correct=right)
            for each, right in correct.items()
        ]
        return rows, example

    def _load(self, batch: Sequence[Pair], attack: str) -> tuple[Tensor, Tensor, Tensor]:
        """Clean images, the images to judge, both in [0,1] (B, 3, H, W), and labels (B,)."""
        read = [self._reader.read(pair) for pair in batch]
        clean = torch.stack([each for _, each in read]).to(self._device).float() / 255
        adversarial = torch.stack([each for each, _ in read]).to(self._device).float() / 255
        labels = torch.tensor([pair.label for pair in batch], device=self._device)
        return clean, clean if attack == CLEAN else adversarial, labels


def _batches(pairs: Sequence[Pair], size: int) -> Iterator[list[Pair]]:
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


def _example(
    target: str, attack: str, pair: Pair, images: Mapping[str, Tensor], answers: Mapping[str, Tensor]
) -> Example:
    """The first image of a batch in all its forms."""
    shown = {each: batch for each, batch in images.items() if each != "none"}
    return Example(
        target=target,
        attack=attack,
        key=pair.key,
        label=pair.label,
        images={
            each: (batch[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
            for each, batch in shown.items()
        },
        predictions={each: int(answers[each][0]) for each in shown},
    )
