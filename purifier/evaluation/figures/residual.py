"""How strong an attack is when a part of its perturbation is left (paper, section 3.1)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from impure.manifests.collection.collection import CommittedShard
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.defences.base.defence import Defence
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.measure_group import Defended, measure_group
from impure.purifier.evaluation.predict import Loaded, batch_seed, predict
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.select import Group, attacked_groups, describe_groups, group_bar

Way = Literal["global", "pixels", "patches"]
WAYS: tuple[Way, ...] = get_args(Way)
PURIFIED = "purified"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualRow:
    """Accuracy of an attack of which a share `scale` is left, in one way: one of `WAYS`, or `PURIFIED`."""

    way: str
    scale: float
    row: Row

    def record(self) -> dict[str, Any]:
        """The row as files hold it."""
        record = self.row.record()
        return {
            "target": record["target"],
            "attack": record["attack"],
            "way": self.way,
            "scale": round(self.scale, 6),
            "n": record["n"],
            "correct": record["correct"],
            "accuracy": record["accuracy"],
            "wilson95_low": record["wilson95_low"],
            "wilson95_high": record["wilson95_high"],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Residual:
    """What was measured, by target and attack in the order of Table 1.

    Attributes:
        rows: The accuracies, by share and way.
        points: Where a purifier P lies, one for each target and attack; empty without one. The share is the
            mean over the images of |P(x + η) - P(x)| / |η|, both sums of absolute values, with the same
            random choices in both passes; where η is zero nothing is left.
        conditions: What has to be known to read them.
    """

    rows: tuple[ResidualRow, ...]
    points: tuple[ResidualRow, ...]
    conditions: Mapping[str, Any]


def shares(steps: int) -> tuple[float, ...]:
    """The shares s from 0 to 1 in equal steps."""
    return tuple(step / steps for step in range(steps + 1))


def partly_attacked(clean: Tensor, attacked: Tensor, scale: float, order: Tensor | None = None) -> Tensor:
    """Images of which a share of the perturbation is left; with 0 and 1 exactly the given ones.

    Globally x + s·η (Eq. 6); locally x + v⊙η, where v is 1 on a share s of the places, else 0 (Eq. 7).

    Args:
        clean: x, RGB in [0,1] (B, 3, H, W).
        attacked: x + η, of the same shape.
        scale: s.
        order: Of the places for the local way, see `draw_order`; None for the global one.
    """
    if order is None:
        return torch.lerp(clean, attacked, scale)
    return torch.where(order < scale, attacked, clean)


def draw_order(images: Tensor, side: int, generator: Generator) -> Tensor:
    """A random order of every image's patches, for each of its pixels: values in (0, 1) (B, 1, H, W).

    Below s lie s times their number, rounded; a larger s keeps all that a smaller one keeps.

    Args:
        images: (B, 3, H, W).
        side: Of the patches in pixels, 1 for single pixels; at the right and lower edge they may be smaller.
        generator: On the CPU.
    """
    batch, _, height, width = images.shape
    rows, columns = -(-height // side), -(-width // side)
    ranks = torch.rand(batch, rows * columns, generator=generator).argsort(1).argsort(1)
    order = ((ranks + 0.5) / (rows * columns)).view(batch, 1, rows, columns).to(images.device)
    return order.repeat_interleave(side, 2).repeat_interleave(side, 3)[..., :height, :width]


def measure_residual(
    shards: Sequence[CommittedShard],
    classifiers: Mapping[str, nn.Module],
    config: EvaluateConfig,
    *,
    device: torch.device,
    patch: int,
    steps: int,
    purifier: Defence | None = None,
    progress: bool = False,
) -> Residual:
    """Measure accuracy against the share of the perturbation that is left.

    Args:
        shards: The shards, of any splits.
        classifiers: By the target's name in the shards.
        config: Batch size, seed and limit.
        device: Where to compute, in float32.
        patch: Side of the patches in pixels.
        steps: Between s = 0 and s = 1.
        purifier: Also measure what this one leaves.
        progress: Show a bar on standard error.

    Raises:
        InputError: There is no attacked image, a target has no classifier, or a shard is inconsistent.
    """
    groups = attacked_groups(shards, classifiers, config.limit)
    measurer = _Measurer(config, device, patch, shares(steps), purifier)
    with torch.no_grad(), group_bar(groups, progress=progress) as begin:
        for group in groups:
            measurer.measure(group, classifiers[group.target].to(device).eval(), begin(group))
    conditions = {
        **config.conditions(),
        "patch": patch,
        "evaluated": "images with a part of the perturbation, and purified ones, as floats",
        "device": device.type,
        **describe_groups(shards, groups),
    }
    return Residual(rows=tuple(measurer.rows), points=tuple(measurer.points), conditions=conditions)


class _Measurer:
    """Measures groups of attacked samples, and collects rows and points."""

    def __init__(
        self,
        config: EvaluateConfig,
        device: torch.device,
        patch: int,
        shares: Sequence[float],
        purifier: Defence | None,
    ) -> None:
        self._config = config
        self._device = device
        self._patch = patch
        self._shares = shares
        self._purifier = None if purifier is None else purifier.to(device).eval()
        self._reader = PairReader()
        self.rows: list[ResidualRow] = []
        self.points: list[ResidualRow] = []

    def measure(self, group: Group, classifier: nn.Module, advance: Callable[[int], object]) -> None:
        """Add the rows of a group, and the purifier's point."""
        left: list[Tensor] = []

        def defend(loaded: Loaded, number: int) -> Defended:
            predictions = self._predictions(loaded, classifier, number)
            if self._purifier is not None:
                purified, share = self._purify(self._purifier, loaded, number)
                logits_of = partial(self._purifier.classify, classifier=classifier)
                predictions[PURIFIED] = predict(logits_of, purified)
                left.append(share)
            return Defended({}, predictions, {})

        measured = measure_group(
            self._reader,
            group,
            defend,
            batch_size=self._config.batch_size,
            device=self._device,
            advance=advance,
        )
        rows = {name: measured.row(group, name) for name in measured.right}
        for way, scale in product(WAYS, self._shares):
            self.rows.append(ResidualRow(way=way, scale=scale, row=rows[_name(way, scale)]))
        if left:
            share = float(torch.cat(left).mean())
            self.points.append(ResidualRow(way=PURIFIED, scale=share, row=rows[PURIFIED]))

    def _predictions(self, loaded: Loaded, classifier: nn.Module, number: int) -> dict[str, Tensor]:
        """Predicted classes of a batch by way and share; both ends are the same in all ways."""
        generator = torch.Generator().manual_seed(batch_seed(self._config.seed, number, 0))
        orders: dict[Way, Tensor | None] = {
            "global": None,
            "pixels": draw_order(loaded.clean, 1, generator),
            "patches": draw_order(loaded.clean, self._patch, generator),
        }
        ends = {0.0: predict(classifier, loaded.clean), 1.0: predict(classifier, loaded.attacked)}

        def at(scale: float, order: Tensor | None) -> Tensor:
            if scale in ends:
                return ends[scale]
            return predict(classifier, partly_attacked(loaded.clean, loaded.attacked, scale, order))

        return {_name(way, scale): at(scale, orders[way]) for way, scale in product(WAYS, self._shares)}

    def _purify(self, purifier: Defence, loaded: Loaded, number: int) -> tuple[Tensor, Tensor]:
        """Purified images, and for each the share (B,) of the perturbation that is left."""
        seed = batch_seed(self._config.seed, number, 0)
        purifier.reseed(seed)
        purified = purifier(loaded.attacked)
        purifier.reseed(seed)
        residual = (purified - purifier(loaded.clean)).abs().sum((1, 2, 3))
        scale = (loaded.attacked - loaded.clean).abs().sum((1, 2, 3))
        return purified, torch.where(scale > 0, residual / scale, 0.0)


def _name(way: Way, scale: float) -> str:
    """Of a row in the measurement loop."""
    return f"{way} {scale}"
