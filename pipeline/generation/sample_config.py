"""What decides which images are sampled, beside images and target; free of torch, for help texts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from impure.manifests.base.errors import InputError
from impure.manifests.collection.shard_id import MAX_SAMPLES
from impure.pipeline.attacks.attack_names import PRECISIONS

CHANNELS_LAST = "channels_last"
"""The memory format in which decoded images come; on a CPU it is the faster one."""

#: ImageNet's split -> the splits of a collection that are drawn from it, in this order, disjoint (paper 4.1).
SPLITS_OF = {"train": ("train",), "val": ("validation", "test")}

PER_CLASS = {"train": 10, "val": 5}
"""ImageNet's split -> images of each class in each split of the collection, as in the paper (section 4.1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleConfig:
    """What decides a sample, apart from the images and the target.

    Attributes:
        split: ImageNet's split, `train` or `val`.
        per_class: Images of each class in each split of the collection.
        validation_per_class: Of the split validation, where it shall differ; None for the same.
        seed: Of the order in which a class's images are tried.
        shard_size: Images in a shard.
        batch_size: Images that the target classifies, and attacks take, at once.
        threads: Of the CPU.
        memory_formats: How images and weights lie in memory, by an attack's precision (see `Target.lay_out`).
            These three are frozen with the plan, because float32 rounding depends on them: whoever continues
            a collection, on whatever machine, does it as it was begun.
    """

    split: str
    per_class: int
    validation_per_class: int | None = None
    seed: int = 0
    shard_size: int = 500
    batch_size: int = 32
    threads: int = 1
    memory_formats: Mapping[str, str] = field(
        default_factory=lambda: dict.fromkeys(PRECISIONS, CHANNELS_LAST)
    )

    def __post_init__(self) -> None:
        if self.split not in SPLITS_OF:
            raise InputError(f"split {self.split!r} is none of {', '.join(SPLITS_OF)}")
        for name in ("per_class", "shard_size", "batch_size", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, it is {getattr(self, name)}")
        if self.validation_per_class is not None and (self.split != "val" or self.validation_per_class < 1):
            raise InputError(
                f"validation_per_class is {self.validation_per_class}; it is for val, and at least 1"
            )
        if set(self.memory_formats) != set(PRECISIONS):
            raise InputError(f"memory_formats must name one for each of {', '.join(PRECISIONS)}")
        if self.shard_size > MAX_SAMPLES:
            raise InputError(f"shard_size must be at most {MAX_SAMPLES}, it is {self.shard_size}")

    @property
    def sizes(self) -> dict[str, int]:
        """Images of each class by split of the collection, in the order in which they are drawn."""
        sizes = dict.fromkeys(SPLITS_OF[self.split], self.per_class)
        return sizes | ({"validation": self.validation_per_class} if self.validation_per_class else {})
