"""How alike the Grad-CAM maps of attacked, purified and clean images are (paper, section 4.4)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from impure.manifests.collection.collection import CommittedShard
from impure.pipeline.targets.target import Target
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.figures.grad_cam import (
    choose_layer,
    correlation,
    enlarged,
    maps_of,
)
from impure.purifier.evaluation.measure_group import Defended, measure_group
from impure.purifier.evaluation.predict import Loaded, batch_seed, predict
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import Group, attacked_groups, describe_groups, group_bar

FORMS = ("clean", "adversarial", "purified")
MAP = "map of "  # before a form: among a batch's images


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How alike the maps of one form of the images and of the clean images are, over an attack's images.

    Attributes:
        form: `adversarial` or `purified`.
        n: Images.
        correct: Of them are classified correctly in this form.
        mean: Of Pearson's correlation of the two maps; one without variation counts as 0.
        deviation: Standard deviation of the correlation over the images.
    """

    target: str
    attack: str
    form: str
    n: int
    correct: int
    mean: float
    deviation: float

    def record(self) -> dict[str, Any]:
        """The row as files hold it."""
        return {
            "target": self.target,
            "attack": self.attack,
            "form": self.form,
            "n": self.n,
            "correct": self.correct,
            "accuracy": round(self.correct / self.n, 6),
            "correlation": round(self.mean, 6),
            "deviation": round(self.deviation, 6),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One sample in its three forms, to be drawn.

    Attributes:
        images: RGB in [0,1] (3, H, W) by form.
        maps: Of the same size (H, W), from 0 to 1, by form.
        predictions: Predicted class by form.
    """

    target: str
    attack: str
    label: int
    images: Mapping[str, Tensor]
    maps: Mapping[str, Tensor]
    predictions: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GradCam:
    """What was measured, and one sample of each attack."""

    rows: tuple[Likeness, ...]
    shown: tuple[Shown, ...]
    conditions: Mapping[str, Any]


def measure_grad_cam(
    shards: Sequence[CommittedShard],
    classifiers: Mapping[str, Target],
    purifier: Defence,
    config: EvaluateConfig,
    *,
    device: torch.device,
    layer: str | None = None,
    progress: bool = False,
) -> GradCam:
    """Compare the maps of every attacked image, before and after purification, with its clean image's.

    Explained is the class that the target predicts for the form at hand.

    Args:
        shards: The shards, of any splits.
        classifiers: By the target's name in the shards.
        purifier: The defence.
        config: Batch size, seed and limit.
        device: Where to compute, in float32.
        layer: Name of the layer in the target; None for the last with feature maps.
        progress: Show a bar on standard error.

    Raises:
        InputError: There is no attacked image, no such layer, captum is not installed, a target has no
            classifier, or a shard is inconsistent.
    """
    groups = attacked_groups(shards, classifiers, config.limit)
    measurer = _Measurer(purifier.to(device).eval(), config, device, layer)
    with group_bar(groups, progress=progress) as begin:
        for group in groups:
            measurer.measure(group, classifiers[group.target].to(device).eval(), begin(group))
    conditions = {
        **config.conditions(),
        "layer": [f"{target}: {name}" for target, name in measurer.layers.items()],
        "explained": "the class that the target predicts for the image at hand",
        "device": device.type,
        **describe_groups(shards, groups),
    }
    return GradCam(rows=tuple(measurer.rows), shown=tuple(measurer.shown), conditions=conditions)


class _Measurer:
    """Measures groups of attacked samples, and collects rows and samples to show."""

    def __init__(
        self, purifier: Defence, config: EvaluateConfig, device: torch.device, layer: str | None
    ) -> None:
        self._purifier = purifier
        self._config = config
        self._device = device
        self._asked = layer
        self._reader = PairReader()
        self.layers: dict[str, str] = {}  # by target
        self.rows: list[Likeness] = []
        self.shown: list[Shown] = []

    def measure(self, group: Group, classifier: Target, advance: Callable[[int], object]) -> None:
        """Add the rows of a group, and its sample."""
        alike: dict[str, list[Tensor]] = {form: [] for form in FORMS[1:]}

        def defend(loaded: Loaded, number: int) -> Defended:
            images = self._forms(loaded, number)
            with torch.no_grad():
                predictions = {form: predict(classifier, each) for form, each in images.items()}
            layer = self._layer(group.target, classifier, loaded.clean)
            maps = {
                form: maps_of(classifier, layer, images[form], predictions[form].clamp_min(0))
                for form in FORMS
            }
            for form, values in alike.items():
                values.append(correlation(maps[form], maps["clean"]))
            size = loaded.clean.shape[2:]
            large = {MAP + form: enlarged(each, *size)[:, None] for form, each in maps.items()}
            return Defended(images | large, predictions, {})

        measured = measure_group(
            self._reader,
            group,
            defend,
            batch_size=self._config.batch_size,
            device=self._device,
            advance=advance,
        )
        for form, batches in alike.items():
            self.rows.append(_likeness(measured.row(group, form), torch.cat(batches)))
        self.shown.append(_sample(group, measured.shown))

    def _forms(self, loaded: Loaded, number: int) -> dict[str, Tensor]:
        """A batch clean, attacked and purified."""
        self._purifier.reseed(batch_seed(self._config.seed, number, 0))
        with torch.no_grad():
            purified = self._purifier(loaded.attacked)
        return dict(zip(FORMS, (loaded.clean, loaded.attacked, purified), strict=True))

    def _layer(self, name: str, target: Target, images: Tensor) -> nn.Module:
        """The layer of a target whose maps are taken."""
        if name not in self.layers:
            self.layers[name] = choose_layer(target.network, images, self._asked)
        return target.network.get_submodule(self.layers[name])


def _likeness(row: Row, correlations: Tensor) -> Likeness:
    """What a group's maps (n,) in a form, counted in a row, have in common with those of its clean images."""
    return Likeness(
        target=row.target,
        attack=row.attack,
        form=row.defence,
        n=row.n,
        correct=row.correct,
        mean=float(correlations.mean()),
        deviation=float(correlations.std(correction=0)),
    )


def _sample(group: Group, shown: Defended) -> Shown:
    """The sample that a group shows."""
    return Shown(
        target=group.target,
        attack=group.attack,
        label=group.pairs[group.shown].label,
        images={form: shown.images[form][0].cpu() for form in FORMS},
        maps={form: shown.images[MAP + form][0, 0].cpu() for form in FORMS},
        predictions={form: int(shown.predictions[form][0]) for form in FORMS},
    )
