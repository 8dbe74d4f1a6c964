"""Sampling: which images are attacked, so many of each class that the target classifies correctly."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from impure.manifests.base.canonical_json import differing_fields, plain
from impure.manifests.base.errors import InputError
from impure.manifests.base.images import px_sha256
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.schema import SCHEMA_VERSION, STATUS_OK, UNREADABLE, Row
from impure.manifests.commands.console import say
from impure.pipeline.attacks.engine.precision import matrix_products
from impure.pipeline.devices import cores
from impure.pipeline.generation.class_choice import MISCLASSIFIED, Accuracy, Finish, Tally, choose
from impure.pipeline.generation.draw_plan import mix_into_shards, shuffled
from impure.pipeline.generation.sample_config import SPLITS_OF, SampleConfig
from impure.pipeline.sources.imagenet import imagenet_wnids
from impure.pipeline.sources.source import Source, SourceImage
from impure.pipeline.targets.preprocess import CleanImage, load_clean
from impure.pipeline.targets.target import Target
from impure.pipeline.tensors import to_float, to_tensor

_OPTIONAL = "validation_per_class"  # in a plan's config only where it was asked for


def sample(
    collection: Collection,
    source: Source,
    target: Target,
    config: SampleConfig,
    *,
    allow_short: bool = False,
    progress: Callable[[int], object] = lambda count: None,
) -> list[FrozenPlan]:
    """Draw and freeze the plans of one ImageNet split, or read those that are frozen already.

    Args:
        collection: Where the plans are kept.
        source: The clean images.
        target: Decides which images count as correctly classified.
        config: How many, which seed.
        allow_short: Accept classes that do not have enough correctly classified images.
        progress: Called with the number of images chosen, as they are chosen.

    Returns:
        One plan for each split of the collection, in the order of `SPLITS_OF`.

    Raises:
        InputError: A frozen plan was drawn with another config; a class is short; a class is unknown.
    """
    identity = _identity(source, target, config)
    frozen = frozen_plans(collection, source, target, config)
    if all(frozen):
        return [plan for plan in frozen if plan is not None]
    target.lay_out(config.memory_formats["fp32"])
    tallies = _draw(source, target, config, progress)
    _check_shortfall(tallies, config, allow_short)
    facts = {
        **identity,
        "batch_size": config.batch_size,
        "threads": config.threads,
        "memory_formats": dict(config.memory_formats),
        "misclassified": sum(tally.misclassified for tally in tallies.values()),
    }
    asked = {split: size * len(tallies) for split, size in config.sizes.items()}
    tables = {
        split: mix_into_shards(split, rows, facts | {"asked": asked[split]})
        for split, rows in _rows_by_split(tallies, config).items()
    }
    return [
        collection.freeze_plan(split, table, facts | {"asked": asked[split]})
        for split, table in tables.items()
    ]


def frozen_plans(
    collection: Collection, source: Source, target: Target, config: SampleConfig
) -> list[FrozenPlan | None]:
    """The frozen plan of each split of the collection, in the order of `SPLITS_OF`; None where there is none.

    Raises:
        InputError: One was drawn with another config, or is another plan.
    """
    identity = _identity(source, target, config)
    return [_frozen_plan(collection, target.card.name, split, identity) for split in SPLITS_OF[config.split]]


def _frozen_plan(
    collection: Collection, target: str, split: str, identity: Mapping[str, Any]
) -> FrozenPlan | None:
    """The frozen plan; None where there is none.

    Raises:
        InputError: It was drawn with another config (the message names the fields), or is another plan.
    """
    plan = collection.plan(target, split)
    if plan is None:
        return None
    drawn = {key: plan.config.get(key) for key in (*identity, _OPTIONAL)}
    if differing := differing_fields(identity, drawn):
        grow = identity["per_class"] > plan.config.get("per_class", 0)
        hint = " (a frozen plan does not grow; there the same --seed takes these images too)" if grow else ""
        raise InputError(
            f"{plan.path}: drawn with another config: {'; '.join(differing)}; choose another --out{hint}"
        )
    return plan


def _rows_by_split(tallies: Mapping[str, Tally], config: SampleConfig) -> dict[str, list[Row]]:
    """The rows of the splits that are drawn together; unreadable images are named in the first."""
    rows: dict[str, list[Row]] = {}
    begin = 0
    for split, size in config.sizes.items():
        rows[split] = [row for tally in tallies.values() for row in tally.chosen[begin : begin + size]]
        begin += size
    rows[next(iter(rows))] += [row for tally in tallies.values() for row in tally.unreadable]
    return rows


def classes_in(source: Source, target: Target, split: str) -> dict[str, list[SourceImage]]:
    """The source's images by class, for the classes that the target knows.

    Raises:
        InputError: A class is neither the target's nor ImageNet's, or none is the target's.
    """
    by_class: dict[str, list[SourceImage]] = defaultdict(list)
    for image in source.images(split):
        by_class[image.wnid].append(image)
    known = set(target.card.wnids)
    if unknown := sorted(set(by_class) - known - set(imagenet_wnids())):
        first = by_class[unknown[0]][0].source_id
        raise InputError(
            f"{first}: {unknown[0]!r} is no class of ImageNet's 1000 nor of target {target.card.name!r}"
        )
    kept = {wnid: images for wnid, images in sorted(by_class.items()) if wnid in known}
    if not kept:
        raise InputError(
            f"target {target.card.name!r} knows none of the classes of {source.name!r}; give another --target"
        )
    return kept


def _identity(source: Source, target: Target, config: SampleConfig) -> dict[str, Any]:
    """Everything that decides a plan, as JSON."""
    return plain(
        {
            "schema_version": SCHEMA_VERSION,
            "source": source.name,
            "target": target.identity(),
            "per_class": config.per_class,
            "seed": config.seed,
            "shard_size": config.shard_size,
            "split": config.split,
            **({} if (few := config.validation_per_class) is None else {_OPTIONAL: few}),
        }
    )


def _draw(
    source: Source, target: Target, config: SampleConfig, progress: Callable[[int], object]
) -> dict[str, Tally]:
    """Try each class's images in seeded order until it has enough; says which classes are left out."""
    by_class = classes_in(source, target, config.split)
    if left_out := sorted({image.wnid for image in source.images(config.split)} - by_class.keys()):
        say(
            f"Left out: {len(left_out)} of {len(left_out) + len(by_class)} classes of {source.name!r}, which "
            f"target {target.card.name!r} does not know ({', '.join(left_out[:3])} …). Numbers in .cls count "
            "ImageNet's 1000 classes; write wnids where yours are others."
        )
    candidates = {
        wnid: sorted(images, key=lambda image: shuffled(config.seed, image.source_id))
        for wnid, images in by_class.items()
    }
    wanted = sum(config.sizes.values())
    accuracy = Accuracy(target.card.name, target.card.num_classes)
    with ThreadPoolExecutor(cores(), "decode") as pool:

        def begin(images: Sequence[SourceImage]) -> Finish:
            loading = [pool.submit(load_clean, source, image, target.card) for image in images]
            return lambda: accuracy.watch(_classify_all(target, [future.result() for future in loading]))

        return choose(candidates, wanted, config.batch_size, begin, progress)


def _classify_all(target: Target, loaded: Sequence[CleanImage]) -> list[Row]:
    """Classify what could be decoded of a batch; a row for each image."""
    verdicts = iter(classify(target, [clean for clean in loaded if clean.pixels is not None]))
    return [
        _row(clean, UNREADABLE) if clean.pixels is None else _classified(target, clean, *next(verdicts))
        for clean in loaded
    ]


def _classified(target: Target, clean: CleanImage, prediction: int, confidence: float) -> Row:
    """The row of a readable image, by the target's prediction."""
    status = STATUS_OK if prediction == target.card.wnids.index(clean.image.wnid) else MISCLASSIFIED
    return {**_row(clean, status), "label": prediction, "pred_clean": prediction, "conf_clean": confidence}


def classify(target: Target, images: Sequence[CleanImage]) -> list[tuple[int, float]]:
    """Prediction and its confidence for each readable image, in fp32; -1 where the logits are NaN or +inf."""
    pixels = [clean.pixels for clean in images if clean.pixels is not None]
    if not pixels:
        return []
    with torch.inference_mode(), matrix_products("fp32"):
        batch = to_float(to_tensor(pixels, target.mean.device, target.memory_format))
        logits = target(batch)
        confidence, prediction = logits.softmax(1).max(1)
        prediction = prediction.where(logits.amax(1).isfinite(), -1)
    return list(zip(prediction.tolist(), confidence.tolist(), strict=True))


def _row(clean: CleanImage, status: str) -> Row:
    """The part of a plan's row that is known of any image."""
    height, width = (None, None) if clean.pixels is None else clean.pixels.shape[:2]
    return {
        "source_id": clean.image.source_id,
        "source_sha256": clean.source_sha256,
        "wnid": clean.image.wnid,
        "width": width,
        "height": height,
        "clean_px_sha256": None if clean.pixels is None else px_sha256(clean.pixels),
        "status": status,
        "error": clean.error,
    }


def _check_shortfall(tallies: Mapping[str, Tally], config: SampleConfig, allow_short: bool) -> None:
    """Refuse classes with too few images, naming them and why."""
    wanted = sum(config.sizes.values())
    short = {wnid: tally for wnid, tally in tallies.items() if len(tally.chosen) < wanted}
    if not short or allow_short:
        return
    lines = [
        f"{wnid} has {len(tally.chosen)} of {wanted} (misclassified {tally.misclassified}, "
        f"unreadable {len(tally.unreadable)})"
        for wnid, tally in list(short.items())[:5]
    ]
    more = f" and {len(short) - 5} more" if len(short) > 5 else ""
    raise InputError(
        f"too few correctly classified images in {len(short)} of {len(tallies)} classes: "
        f"{', '.join(lines)}{more}; lower --per-class or accept it with --allow-short"
    )
