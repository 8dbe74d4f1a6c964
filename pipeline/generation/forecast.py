"""Forecast of a run: what it would make, and what it would take at most."""

from collections.abc import Sequence
from math import ceil, prod
from typing import TypedDict

from impure.manifests.collection.shard_id import CLEAN
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.generation.batch_size import seconds_per_gradient
from impure.pipeline.generation.run import GenerateConfig, GenerationRun
from impure.pipeline.generation.sample_config import SampleConfig
from impure.pipeline.generation.sampling import classes_in, frozen_plans
from impure.pipeline.generation.time_left import BACKWARD, CHECKS

EARLY = 0.11
"""What an attack costs, of its gradients at most, where fooled images leave it. DeepFool was seen to take
0.08 to 0.1 of them, the last ones in small batches, which take longer an image."""

MEMBER, SAMPLE, SHARD = 1 << 10, 1 << 12, 1 << 16
"""Bytes at most: of a member's header and padding; of a sample beside its images; of a shard beside these."""


class Forecast(TypedDict):
    """What a run would make and take; shards that are committed already count too.

    Attributes:
        images: Of all splits; where there is no plan yet, as if every class had enough of them.
        attacks: On each image.
        pairs: Images times attacks.
        shards: Of all attacks.
        gib_at_most: GiB of disk, as if nothing could be compressed.
        hours_at_most: Hours of one worker, as if no attack ended early.
    """

    images: int
    attacks: int
    pairs: int
    shards: int
    gib_at_most: float
    hours_at_most: float


def forecast(run: GenerationRun, samples: Sequence[SampleConfig], config: GenerateConfig) -> Forecast:
    """Count images, pairs and shards; bound size and time. Nothing is drawn, and nothing written.

    Raises:
        InputError: A frozen plan was drawn with another config, or the classes are none of the target's.
    """
    attacks = config.attacks
    counts = [count for sample in samples for count in _images_of_splits(run, sample)]
    images = sum(counts)
    shards = sum(ceil(count / samples[0].shard_size) for count in counts) * len(attacks)
    size = images * _bytes_per_image(run, config) + shards * SHARD
    gradients = sum(1 if attack is None else gradients_at_most(attack) for attack in attacks)
    seconds = images * gradients * seconds_per_gradient(run.target, config.batch_size)
    return {
        "images": images,
        "attacks": len(attacks),
        "pairs": images * len(attacks),
        "shards": shards,
        "gib_at_most": _short(size / 2**30),
        "hours_at_most": _short(seconds / 3600),
    }


def _images_of_splits(run: GenerationRun, sample: SampleConfig) -> list[int]:
    """How many images each split of the collection has or will have."""
    plans = frozen_plans(run.collection, run.source, run.target, sample)
    classes = len(classes_in(run.source, run.target, sample.split))
    return [
        classes * size if plan is None else len(plan.table)
        for plan, size in zip(plans, sample.sizes.values(), strict=True)
    ]


def _bytes_per_image(run: GenerationRun, config: GenerateConfig) -> int:
    """At most, over all attacks."""
    names = [CLEAN if attack is None else attack.name for attack in config.attacks]
    stored = sum(len(config.storage.images(name)) for name in names)
    return stored * (3 * run.target.card.crop**2 + MEMBER) + len(names) * SAMPLE


def _short(value: float) -> float:
    """Three digits that count, of small numbers too."""
    return float(f"{value:.3g}")


def gradients_at_most(attack: AttackConfig) -> int:
    """Gradients (for Square: queries) that an attack takes for an image that withstands it to the end."""
    params = attack.params
    if {"target_classes", "queries"} <= set(params):  # AutoAttack's four one after another
        once = params["steps"] * (1 + 2 * params["target_classes"]) + params["queries"]
    else:
        names = ("steps", "search_steps", "candidates", "target_classes", "queries")
        once = prod(params.get(name, 1) for name in names)
    return int(once) * attack.restarts


def likely_passes(attack: AttackConfig | None) -> float:
    """What an image probably takes, in forward passes."""
    if attack is None:
        return CHECKS
    gradients = gradients_at_most(attack) * (EARLY if attack.ends_early else 1)
    shared = attack.params.get("candidates", 1)  # so many gradients of one forward pass
    return CHECKS + (BACKWARD + 1 / shared) * gradients
