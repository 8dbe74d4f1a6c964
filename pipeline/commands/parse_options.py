"""From the options of `impure-data` to what the library takes: places, samples, orders."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.collection.storage import MAX_CHANGE, Storage
from impure.manifests.commands.click_options import comma_separated
from impure.manifests.commands.console import say, writable
from impure.pipeline.attacks.attack_config import AttackConfig, parse_override
from impure.pipeline.attacks.attack_names import ALL_ATTACKS, ATTACK_NAMES, PAPER_ATTACKS
from impure.pipeline.commands.shared_options import AUTO
from impure.pipeline.devices import cores
from impure.pipeline.generation.attack_job import new_run_id
from impure.pipeline.generation.batch_size import fitting_batch_size
from impure.pipeline.generation.draw_plan import SPLITS_OF, SampleConfig, begun_with
from impure.pipeline.generation.run import GenerateConfig, GenerationRun, Locations
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.sources.source_names import BUILTIN

PER_CLASS = {"train": 10, "val": 5}  # the paper's (section 4.1)


def find_place(given: dict[str, Any]) -> Locations:
    """Where the images, the target and the collection are, as the shared options say.

    Raises:
        InputError: The options contradict each other, or what they name is not there.
    """
    if given["images"] == BUILTIN:
        say("Images: the built-in dataset (ten drawn classes, no photographs); see --images for ImageNet.")
    if given["split"] == "all" and given["images"].endswith(".tar"):
        raise InputError("tars hold one of ImageNet's splits: say which with --split train or --split val")
    name = given["target"] or (BUILTIN if given["images"] == BUILTIN else None)
    if name is None:
        raise InputError(
            "--images needs a --target: resnet101, inception_v3, inception_resnet_v2 or a card.json"
        )
    source = open_source(given["images"], given["labels"])
    root = writable(given["out"] or Path("impure-data") / source.name)
    return Locations(
        images=given["images"] if given["images"] == BUILTIN else os.path.abspath(given["images"]),
        labels=_absolute(given["labels"]), weights=_absolute(given["weights"]), root=root.absolute(),
        target=os.path.abspath(name) if name.endswith(".json") else name,
        device=given["device"], threads=threads_for(root, name, given),
    )  # fmt: skip


def _absolute(path: Path | None) -> Path | None:
    """For workers that run elsewhere."""
    return path and path.absolute()


def threads_for(root: Path, target: str, given: dict[str, Any]) -> int:
    """CPU threads of one worker.

    Raises:
        InputError: The collection was begun with another number, and pixels would be rounded differently.
    """
    wanted = default_threads(root, target, given.get("workers"))
    if given["threads"] in (None, wanted) or not any((root / "plans").glob("*.parquet")):
        return int(given["threads"] or wanted)
    raise InputError(f"{root}: begun with --threads {wanted}: leave --threads away, or choose another --out")


def default_threads(root: Path, target: str, workers: int | None) -> int:
    """As the collection was begun, for the same rounding; else the cores, shared by the workers."""
    if begun := begun_with(Collection(root)):
        return int(begun["threads"])
    # Tiny networks lose more by waking threads than they gain.
    return 1 if target == BUILTIN else max(cores() // (workers or 1), 1)


def sample_configs(given: dict[str, Any], run: GenerationRun, threads: int) -> list[SampleConfig]:
    """What to sample from each of ImageNet's splits."""
    size = given["batch_size"]
    if size == AUTO:
        begun = begun_with(run.collection, run.target.card.name)
        size = begun["batch_size"] if begun else fitting_batch_size(run.target)
    return [
        SampleConfig(
            split=split, per_class=given["per_class"] or PER_CLASS[split], seed=given["seed"],
            shard_size=given["shard_size"], batch_size=int(size), threads=threads,
        )
        for split in (PER_CLASS if given["split"] == "all" else (given["split"],))
    ]  # fmt: skip


def order_of(given: dict[str, Any], samples: Sequence[SampleConfig]) -> GenerateConfig:
    """What the options of generate ask for.

    Raises:
        InputError: They contradict each other, or name no attack.
    """
    if given["clean"] == "once" and given["profile"] == "delta":
        raise InputError("--profile delta stores no clean images: leave --clean away")
    profile = "clean-once" if given["clean"] == "once" else given["profile"]
    if profile == "delta" and max(given["eps"]) > MAX_CHANGE:
        raise InputError(f"--profile delta holds changes of at most {MAX_CHANGE}/255: lower --eps")
    attacks = attack_configs(given)
    if profile == "clean-once" and None not in attacks:
        attacks = [None, *attacks]
    return GenerateConfig(
        attacks=tuple(attacks), seed=given["seed"], batch_size=samples[0].batch_size,
        splits=tuple(split for config in samples for split in SPLITS_OF[config.split]),
        compiled=given["compiled"], storage=Storage(encoding=given["encoding"], profile=profile),
        run_id=new_run_id(),
    )  # fmt: skip


def attack_configs(given: dict[str, Any]) -> list[AttackConfig | None]:
    """The attacks that were asked for; None stands for the untouched pairs.

    Raises:
        InputError: A name or a parameter is none.
    """
    asked = comma_separated(given["attack"])
    known = (*ATTACK_NAMES, CLEAN, ALL_ATTACKS)
    wrong = [name for name in asked if name not in known]
    if wrong or not asked:
        named = repr(wrong[0]) if wrong else "''"
        raise InputError(f"unknown attack {named}; choose from {', '.join(known)}")
    names = list(
        dict.fromkeys(
            each for name in asked for each in ((CLEAN, *PAPER_ATTACKS) if name == ALL_ATTACKS else (name,))
        )
    )
    overrides = tuple(parse_override(text) for text in given["overrides"])
    attacked = [
        AttackConfig(
            name=name, eps_255=eps, preset=given["preset"], implementation=given["implementation"],
            overrides=overrides, targeted=given["targeted"], restarts=given["restarts"],
            precision=given["precision"],
        )
        for name in names if name != CLEAN for eps in dict.fromkeys(given["eps"])
    ]  # fmt: skip
    return [None, *attacked] if CLEAN in names else [*attacked]
