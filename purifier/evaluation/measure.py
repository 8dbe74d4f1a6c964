"""Evaluation: accuracy of targets behind defences, on the stored bytes (paper, Table 1)."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.data.pairs import Pair, pairs_digest
from impure.purifier.defences.defence import Defence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.evaluation.image_strips import Example, example
from impure.purifier.evaluation.predict import (
    NO_CLASS,
    Combine,
    Loaded,
    batch_seed,
    combined,
    load,
    predict,
    release_resize,
)
from impure.purifier.evaluation.scores import Mean, Row, means
from impure.purifier.evaluation.select import Group, batches, select_groups

RESIZED = "+resize"  # behind a defence's name: its images went through `release_resize`


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How every group is judged.

    Attributes:
        batch_size: Images at a time; on which the noise of random defences depends.
        seed: Of the random defences; their first sample is the same however many follow.
        samples: How often random defences are run on each image; others are run once.
        combine: What becomes of several samples: `average` judges the mean of the images; `vote` takes the
            class seen most often; with `worst` an image counts as right only if every sample is.
        extra_resize: Judge every defence, `none` too, once more behind the resizing of the authors' test
            script (see `release_resize`), as NAME+resize.
        limit: At most this many images of each target and attack, evenly from the classes; None for all.

    Raises:
        InputError: A value is impossible; the message names it.
    """

    batch_size: int = 32
    seed: int = 0
    samples: int = 1
    combine: Combine = "average"
    extra_resize: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("seed", 0), ("samples", 1)):
            if getattr(self, name) < least:
                raise InputError(f"evaluation: {name} is {getattr(self, name)}; it must be at least {least}")
        if self.combine not in get_args(Combine):
            raise InputError(
                f"evaluation: combine {self.combine!r} is unknown; choose {', '.join(get_args(Combine))}"
            )

    def conditions(self) -> dict[str, Any]:
        """What has to be known to read the numbers."""
        return {
            "samples": self.samples,
            "combine": "one" if self.samples == 1 else self.combine,
            "seed": self.seed,
            "seeding": "each batch of an attack and each sample by itself, from (seed, batch, sample)",
            "batch_size": self.batch_size,
            "images_per_attack": self.limit or "all",
            "extra_resize": f"rows ending in {RESIZED}" if self.extra_resize else "none",
            "judged": "attacked images as stored, 8 bits; defended ones as floats, not rounded again",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, and under which conditions."""

    rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    conditions: Mapping[str, Any]

    @property
    def means(self) -> tuple[Mean, ...]:
        """The mean over the attacks for each target and defence, in the order of the rows."""
        return means(self.rows)


def evaluate(
    shards: Sequence[CommittedShard],
    targets: Mapping[str, nn.Module],
    defences: Mapping[str, nn.Module],
    config: EvaluateConfig,
    *,
    device: torch.device,
    progress: bool = False,
) -> Evaluation:
    """Measure every defence on every attack of every target, each on shards made for that target.

    `clean` is each distinct clean image of a target once. Images or logits that are not finite are wrong
    answers, and counted in the conditions.

    Args:
        shards: The shards, of any splits.
        targets: Classifier by the name that it has in the shards: RGB in [0,1] in, logits out.
        defences: Modules from RGB in [0,1] to the same, by name.
        config: How to judge.
        device: Where to compute, in float32.
        progress: Show a bar on standard error.

    Raises:
        InputError: A target of the shards is not among `targets`, a shard is inconsistent, or all is empty.
    """
    if not defences:
        raise InputError("nothing to evaluate: no defence is named")
    groups = select_groups(shards, targets, config.limit)
    judge = _Evaluator(defences, config, device)
    rows: list[Row] = []
    examples: list[Example] = []
    total = sum(len(group.pairs) for group in groups)
    with torch.no_grad(), tqdm(total=total, unit="img", disable=not progress) as bar:
        for group in groups:
            bar.set_postfix_str(f"{group.target} {group.attack}")
            found, shown = judge.group(targets[group.target].to(device).eval(), group, bar)
            rows += found
            examples.append(shown)
    pairs = [pair for group in groups for pair in group.pairs]
    conditions = {
        **config.conditions(),
        "partition": sorted({each.partition for each in defences.values() if isinstance(each, RIAEDefence)}),
        "not_finite_answers": judge.not_finite,
        "device": device.type,
        "splits": sorted({pair.shard.shard_id.split for pair in pairs}),
        "pixels_sha256": pairs_digest(pairs),
        "collections": sorted({digest(shard.rows()[1]) for shard in shards}),
        "threat_model": "black-box: the stored images were made against the bare target",
    }
    return Evaluation(rows=tuple(rows), examples=tuple(examples), conditions=conditions)


def is_random(defence: nn.Module) -> bool:
    """Whether a defence draws anything: whether it has a `reseed` of its own, and for RIAE, a use for it."""
    if isinstance(defence, RIAEDefence):
        return defence.riae.config.mask != "occlusion" or defence.partition == "random"
    return isinstance(defence, Defence) and type(defence).reseed is not Defence.reseed


class _Evaluator:
    """Runs groups of samples through every defence and a target."""

    def __init__(
        self, defences: Mapping[str, nn.Module], config: EvaluateConfig, device: torch.device
    ) -> None:
        self._defences = {name: defence.to(device).eval() for name, defence in defences.items()}
        self._config, self._device = config, device
        self._views: dict[str, Callable[[Tensor], Tensor]] = {"": lambda images: images}
        if config.extra_resize:
            self._views[RESIZED] = release_resize
        self._reader = PairReader()
        self.not_finite = 0

    def group(self, target: nn.Module, group: Group, bar: "tqdm[Any]") -> tuple[list[Row], Example]:
        """Rows for every defence, and the group's first sample as an example."""
        correct: Counter[str] = Counter()
        shown: list[Example] = []
        for index, batch in enumerate(batches(group.pairs, self._config.batch_size)):
            loaded = load(self._reader, batch, group.attack, self._device)
            images: dict[str, Tensor] = {}
            answers: dict[str, Tensor] = {}
            for name in self._defences:
                images[name], found = self._defended(target, name, loaded, index)
                answers |= found
            for name, each in answers.items():
                correct[name] += int((each == loaded.labels).sum())
                self.not_finite += int((each == NO_CLASS).sum())
            if not shown:
                shown = [_example(target, group, batch[0], loaded, images, answers)]
            bar.update(len(batch))
        rows = [
            self._row(group, name, suffix, correct[name + suffix])
            for name in self._defences
            for suffix in self._views
        ]
        return rows, shown[0]

    def _defended(
        self, target: nn.Module, name: str, loaded: Loaded, index: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch behind one defence: its first copy, and the combined answers by name of the row."""
        copies = self._copies(self._defences[name], loaded.attacked, index)
        first = next(copies)
        answers: dict[str, list[Tensor]] = {name + suffix: [] for suffix in self._views}
        for copy in chain([first], copies):
            for suffix, view in self._views.items():
                answers[name + suffix].append(predict(target, view(copy)))
        combine = self._config.combine
        return first, {
            each: combined(torch.stack(found), loaded.labels, combine) for each, found in answers.items()
        }

    def _copies(self, defence: nn.Module, images: Tensor, index: int) -> Iterator[Tensor]:
        """The defended copies of a batch that the target judges: of each sample one, or the mean of all."""
        samples = self._samples(defence)
        copies = (self._draw(defence, images, index, sample) for sample in range(samples))
        if self._config.combine == "average":
            yield sum(copies, torch.zeros((), device=images.device)) / samples
        else:
            yield from copies

    def _draw(self, defence: nn.Module, images: Tensor, index: int, sample: int) -> Tensor:
        """One defended copy of a batch."""
        if isinstance(defence, Defence):
            defence.reseed(batch_seed(self._config.seed, index, sample))
        defended: Tensor = defence(images)
        return defended

    def _samples(self, defence: nn.Module) -> int:
        """How often a defence is run."""
        return self._config.samples if is_random(defence) else 1

    def _row(self, group: Group, name: str, suffix: str, correct: int) -> Row:
        """The row of a group behind a defence."""
        samples = self._samples(self._defences[name])
        return Row(
            target=group.target,
            attack=group.attack,
            defence=name + suffix,
            n=len(group.pairs),
            correct=correct,
            combine="one" if samples == 1 else self._config.combine,
            samples=samples,
        )


def _example(
    target: nn.Module,
    group: Group,
    pair: Pair,
    loaded: Loaded,
    images: Mapping[str, Tensor],
    answers: Mapping[str, Tensor],
) -> Example:
    """A batch's first sample, bare and behind every defence."""
    bare = {"clean": loaded.clean[:1], "adversarial": loaded.attacked[:1]}
    bare_answers = {name: predict(target, each) for name, each in bare.items()}
    defended = {name: each for name, each in images.items() if name != "none"}
    return example(group.target, group.attack, pair, {**bare, **defended}, {**bare_answers, **answers})
