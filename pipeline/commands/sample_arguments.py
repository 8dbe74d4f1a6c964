"""What a user asked of `sample`, and what comes of it: locations, sample configs, plans."""

import os
from dataclasses import dataclass
from pathlib import Path

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.commands.console import progress, say, writable
from impure.pipeline.commands.shared_options import AUTO
from impure.pipeline.devices import cores
from impure.pipeline.generation.batch_size import fastest_batch_size, fastest_memory_formats
from impure.pipeline.generation.run import GenerationRun, Locations
from impure.pipeline.generation.sample_config import PER_CLASS, SampleConfig
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.sources.source_names import BUILTIN
from impure.pipeline.targets.target_names import TARGETS


@dataclass(frozen=True, kw_only=True)
class SampleArguments:
    """The values of the options that `sample` and `generate` share; see their help."""

    images: str
    labels: Path | None
    split: str
    target: str | None
    weights: Path | None
    per_class: int | None
    validation_per_class: int | None
    seed: int
    allow_short: bool
    shard_size: int
    out: Path | None
    batch_size: int | str
    device: str
    threads: int | None
    as_json: bool

    @property
    def target_name(self) -> str:
        """The target, by default the built-in one for the built-in images.

        Raises:
            InputError: Other images need one to be named.
        """
        if self.target is None and self.images != BUILTIN:
            named = [name for name in TARGETS if name != BUILTIN]
            raise InputError(f"--images needs a --target: {', '.join(named)} or a card.json")
        return self.target or BUILTIN


def find_locations(arguments: SampleArguments, workers: int | None = None) -> Locations:
    """Where the images, the target and the collection are.

    Args:
        arguments: As given.
        workers: Processes that share this machine's cores; None for one.

    Raises:
        InputError: The options contradict each other, or what they name is not there.
    """
    if arguments.images == BUILTIN:
        say("Images: the built-in dataset (ten drawn classes, no photographs); see --images for ImageNet.")
    if arguments.split == "all" and arguments.images.endswith(".tar"):
        raise InputError("tars hold one of ImageNet's splits: say which with --split train or --split val")
    if arguments.split == "train" and arguments.validation_per_class is not None:
        raise InputError("--validation-per-class: --split train has no validation images; leave it away")
    target = arguments.target_name
    source = open_source(arguments.images, arguments.labels)
    root = writable(arguments.out or Path("impure-data") / source.name)
    return Locations(
        images=arguments.images if arguments.images == BUILTIN else os.path.abspath(arguments.images),
        labels=_absolute(arguments.labels),
        weights=_absolute(arguments.weights),
        root=root.absolute(),
        target=os.path.abspath(target) if target.endswith(".json") else target,
        device=arguments.device,
        threads=_threads(root, arguments.threads, default_threads(root, target, workers)),
    )


def _absolute(path: Path | None) -> Path | None:
    """For workers that run elsewhere."""
    return path and path.absolute()


def _threads(root: Path, asked: int | None, default: int) -> int:
    """CPU threads of one worker.

    Raises:
        InputError: The collection was begun with another number, and pixels would be rounded differently.
    """
    if asked in (None, default) or not Collection(root).plan_paths():
        return asked or default
    raise InputError(f"{root}: begun with --threads {default}: leave --threads away, or choose another --out")


def default_threads(root: Path, target: str, workers: int | None) -> int:
    """As the collection was begun, for the same rounding; else the cores, shared by the workers."""
    if begun := Collection(root).begun_with():
        return begun["threads"]
    # Tiny networks lose more by waking threads than they gain.
    return 1 if target == BUILTIN else max(cores() // (workers or 1), 1)


def sample_configs(run: GenerationRun, arguments: SampleArguments, threads: int) -> list[SampleConfig]:
    """What to sample from each of ImageNet's splits."""
    begun, size = run.collection.begun_with(run.target.card.name), arguments.batch_size
    formats = begun.get("memory_formats", {}) if begun else fastest_memory_formats(run.target)
    if size == AUTO:
        size = begun["batch_size"] if begun else fastest_batch_size(run.target)
    return [
        SampleConfig(
            split=split,
            per_class=arguments.per_class or PER_CLASS[split],
            validation_per_class=arguments.validation_per_class if split == "val" else None,
            seed=arguments.seed,
            shard_size=arguments.shard_size,
            batch_size=int(size),
            threads=threads,
            memory_formats=formats,
        )
        for split in (PER_CLASS if arguments.split == "all" else [arguments.split])
    ]


def draw_plans(run: GenerationRun, samples: list[SampleConfig], *, allow_short: bool) -> list[FrozenPlan]:
    """Sample, with a bar, or find the frozen plans."""
    with progress(run.images_wanted(samples), " sampled") as advance:
        return run.draw(samples, allow_short=allow_short, advance=advance)
