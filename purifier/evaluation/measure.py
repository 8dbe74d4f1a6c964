"""Evaluation: accuracy of classifiers behind defences, on the stored bytes (paper, Table 1)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.defences.base.classify import Classifier
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.evaluation.evaluate_config import RESIZED, EvaluateConfig
from impure.purifier.evaluation.image_predictions import SCHEMA, group_measurement, image_predictions
from impure.purifier.evaluation.image_strips import Example, example
from impure.purifier.evaluation.measure_group import (
    Defend,
    Defended,
    GroupMeasurement,
    Observe,
    measure_group,
    shown_sample,
    undefended,
)
from impure.purifier.evaluation.partial_results import PartialResults
from impure.purifier.evaluation.predict import Loaded, batch_seed, combined, predict, release_resize
from impure.purifier.evaluation.scores import Mean, Row, means
from impure.purifier.evaluation.select import Group, describe_groups, group_bar, select_groups
from impure.purifier.evaluation.thresholds import set_thresholds


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What was measured, and under which conditions.

    Attributes:
        rows: Accuracies.
        examples: A sample of each attack, to be shown.
        conditions: What has to be known to read the numbers.
        predictions: What was predicted for each image behind each defence; see `image_predictions.SCHEMA`.
    """

    rows: tuple[Row, ...]
    examples: tuple[Example, ...]
    conditions: Mapping[str, Any]
    predictions: pa.Table = field(default_factory=SCHEMA.empty_table, repr=False)

    @property
    def means(self) -> tuple[Mean, ...]:
        """The mean over the attacks for each target and defence, in the order of the rows."""
        return means(self.rows)


def evaluate(
    shards: Sequence[CommittedShard],
    classifiers: Mapping[str, nn.Module],
    defences: Mapping[str, nn.Module],
    config: EvaluateConfig,
    *,
    device: torch.device,
    validation: Sequence[CommittedShard] = (),
    progress: bool = False,
    observe: Observe | None = None,
    partial_results: PartialResults | None = None,
) -> Evaluation:
    """Measure every defence on every attack of every target, each on shards made for that target.

    `clean` is each distinct clean image of a target once. Where images or logits are not finite, the
    prediction is wrong, and counted in the conditions. Of defences with detectors, a rejected image counts as
    right if it is attacked, as wrong if it is clean.

    Args:
        shards: The shards, of any splits.
        classifiers: By the target's name in the shards: RGB in [0,1] in, logits out.
        defences: Modules from RGB in [0,1] to the same, by name.
        config: How to evaluate.
        device: Where to compute, in float32.
        validation: Shards of the split validation, for the thresholds of detectors.
        progress: Show a bar on standard error.
        observe: Told of each batch.
        partial_results: What was measured before is not measured again; not beside `observe`.

    Raises:
        InputError: A target of the shards has no classifier, a shard is inconsistent, all is empty, there
            are detectors without clean images for their thresholds, or a defence's samples have no mean.
    """
    if not defences:
        raise InputError("nothing to evaluate: no defence is named")
    _check_average(defences, config)
    groups = select_groups(shards, classifiers, config.limit)
    evaluator = _Evaluator(defences, config, device, observe, partial_results)
    with torch.no_grad(), group_bar(groups, progress=progress) as begin:
        for target, of_target in groupby(groups, lambda group: group.target):
            classifier = classifiers[target].to(device).eval()
            evaluator.set_thresholds(validation, target, classifier)
            for group in of_target:
                evaluator.measure(group, classifier, begin(group))
    conditions = {
        **config.conditions(),
        "partition": sorted(
            {defence.partition for defence in defences.values() if isinstance(defence, RIAEDefence)}
        ),
        "thresholds": evaluator.thresholds,
        "not_finite_predictions": evaluator.not_finite,
        "device": device.type,
        **describe_groups(shards, groups),
        "threat_model": "black-box: the stored images were made against the bare target",
    }
    return Evaluation(
        rows=tuple(evaluator.rows),
        examples=tuple(evaluator.examples),
        conditions=conditions,
        predictions=pa.concat_tables(evaluator.predictions),
    )


def _check_average(defences: Mapping[str, nn.Module], config: EvaluateConfig) -> None:
    """Raise InputError if the mean of a defence's samples is to be classified, and is no image."""
    if config.samples == 1 or config.combine != "average":
        return
    for name, defence in defences.items():
        if isinstance(defence, Defence) and not defence.can_average:
            raise InputError(
                f"{name}: its samples lie in different places, and their mean is no image; "
                "combine them by --combine vote, or evaluate it on its own with --samples 1"
            )


class _Evaluator:
    """Measures groups of samples behind every defence, and collects rows, predictions and examples."""

    def __init__(
        self,
        defences: Mapping[str, nn.Module],
        config: EvaluateConfig,
        device: torch.device,
        observe: Observe | None,
        partial_results: PartialResults | None,
    ) -> None:
        self._defences = {name: defence.to(device).eval() for name, defence in defences.items()}
        self._config = config
        self._device = device
        self._observe = observe
        self._partial_results = partial_results
        self._views: dict[str, Callable[[Tensor], Tensor]] = {"": lambda images: images}
        if config.extra_resize:
            self._views[RESIZED] = release_resize
        self._reader = PairReader()
        self.rows: list[Row] = []
        self.predictions: list[pa.Table] = []
        self.examples: list[Example] = []
        self.thresholds: list[str] = []  # of which detectors, set on what
        self.not_finite = 0

    def set_thresholds(self, shards: Sequence[CommittedShard], target: str, classifier: nn.Module) -> None:
        """Calibrate detectors for a target."""
        self.thresholds += set_thresholds(
            self._defences,
            shards,
            target,
            classifier,
            batch_size=self._config.batch_size,
            device=self._device,
        )

    def measure(self, group: Group, classifier: nn.Module, advance: Callable[[int], object]) -> None:
        """Add a row for every defence, and the sample that the group shows as an example."""
        defend = partial(self._defend, classifier)
        measured = self._measured_before(group, defend, advance) or self._measured_now(group, defend, advance)
        self.predictions.append(image_predictions(group, measured))
        self.not_finite += measured.not_finite
        for name in self._defences:
            for suffix in self._views:
                self.rows.append(self._row(group, name, suffix, measured))
        self.examples.append(self._example(group, classifier, measured.shown))

    def _example(self, group: Group, classifier: nn.Module, shown: Defended) -> Example:
        """The sample that a group shows, clean, adversarial and behind each defence."""
        bare = undefended(self._reader, group, classifier, self._device)
        defended = {name: image for name, image in shown.images.items() if name != "none"}
        return example(
            group.target,
            group.attack,
            group.pairs[group.shown],
            bare.images | defended,
            bare.predictions | shown.predictions,
        )

    def _measured_before(
        self, group: Group, defend: Defend, advance: Callable[[int], object]
    ) -> GroupMeasurement | None:
        """What was measured of a group before, if anything; the sample that it shows is defended anew."""
        before = self._partial_results and self._partial_results.read(group, self.thresholds)
        if before is None:
            return None
        advance(len(group.pairs))
        batch_size, device = self._config.batch_size, self._device
        shown = shown_sample(self._reader, group, defend, batch_size=batch_size, device=device)
        return group_measurement(before, shown)

    def _measured_now(
        self, group: Group, defend: Defend, advance: Callable[[int], object]
    ) -> GroupMeasurement:
        """Measure a group, and keep it for an evaluation that goes on after this one was killed."""
        measured = measure_group(
            self._reader,
            group,
            defend,
            batch_size=self._config.batch_size,
            device=self._device,
            advance=advance,
            observe=self._observe,
        )
        if self._partial_results is not None:
            self._partial_results.write(group, self.thresholds, image_predictions(group, measured))
        return measured

    def _defend(self, classifier: nn.Module, loaded: Loaded, number: int) -> Defended:
        """A batch behind every defence."""
        behind = Defended({}, {}, {})
        for name, defence in self._defences.items():
            first_copy, predictions = self._defend_by(name, classifier, loaded, number)
            behind.images[name] = first_copy
            behind.predictions.update(predictions)
            rejected = defence.rejects(loaded.attacked, classifier) if isinstance(defence, Defence) else None
            if rejected is not None:
                behind.rejected.update(dict.fromkeys(predictions, rejected))
        return behind

    def _defend_by(
        self, name: str, classifier: nn.Module, loaded: Loaded, number: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch behind one defence: its first copy, and the combined predictions by name of the row."""
        defence = self._defences[name]
        logits_of: Classifier = classifier
        if isinstance(defence, Defence):
            logits_of = partial(defence.classify, classifier=classifier)
        copies = self._copies(defence, loaded.attacked, number)
        first_copy = next(copies)
        predictions: dict[str, list[Tensor]] = {name + suffix: [] for suffix in self._views}
        for copy in chain([first_copy], copies):
            for suffix, view in self._views.items():
                predictions[name + suffix].append(predict(logits_of, view(copy)))
        combine = self._config.combine
        return first_copy, {
            row: combined(torch.stack(samples), loaded.labels, combine)
            for row, samples in predictions.items()
        }

    def _copies(self, defence: nn.Module, images: Tensor, number: int) -> Iterator[Tensor]:
        """The defended copies of a batch that are classified: one of each sample, or the mean of all."""
        samples = self._samples(defence)
        copies = (self._sample(defence, images, number, sample) for sample in range(samples))
        if self._config.combine == "average":
            yield sum(copies, torch.zeros((), device=images.device)) / samples
        else:
            yield from copies

    def _sample(self, defence: nn.Module, images: Tensor, number: int, sample: int) -> Tensor:
        """One defended copy of a batch."""
        if isinstance(defence, Defence):
            defence.reseed(batch_seed(self._config.seed, number, sample))
        defended: Tensor = defence(images)
        return defended

    def _samples(self, defence: nn.Module) -> int:
        """How often a defence is run."""
        return self._config.samples if isinstance(defence, Defence) and defence.is_random else 1

    def _row(self, group: Group, name: str, suffix: str, measured: GroupMeasurement) -> Row:
        """The row of a group behind a defence."""
        samples = self._samples(self._defences[name])
        rejected = measured.rejected.get(name + suffix)
        return replace(
            measured.row(group, name + suffix),
            rejected=None if rejected is None else int(rejected.sum()),
            combine="one" if samples == 1 else self._config.combine,
            samples=samples,
        )
