"""How defences are evaluated, and what has to be known to read the numbers; no torch."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from impure.manifests.base.errors import InputError

Combine = Literal["average", "vote", "worst"]

RESIZED = "+resize"  # behind a defence's name: its images went through `predict.release_resize`


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateConfig:
    """How every group of samples is evaluated.

    Attributes:
        batch_size: Images at a time; on which the noise of random defences depends.
        seed: Of the random defences; their first sample is the same however many follow.
        samples: How often random defences are run on each image; others are run once.
        combine: What becomes of several samples: `average` classifies the mean of the images; `vote` takes
            the class seen most often; with `worst` an image counts as right only if every sample is.
        extra_resize: Evaluate every defence, `none` too, once more behind the resizing of the authors' test
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
            "evaluated": "attacked images as stored, 8 bits; defended ones as floats, not rounded again",
        }
