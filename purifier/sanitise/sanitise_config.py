"""What decides how a data set is sanitised."""

from dataclasses import dataclass

from impure.manifests.base.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitiseConfig:
    """Settings, free of torch so that `--help` is fast.

    Attributes:
        rounds: How often each image is purified, each time what the last round made of it.
        flips: τ: an image is suspicious where more rounds than this give it another label than it had.
        outlier: A class is the target of a backdoor where its share of suspicious images lies further above
            the classes' median than so many (scaled) median absolute deviations.
        seed: Of the purifier's noise.
        batch_size: Images purified at once; only speed and memory depend on it, and float32 rounding.
    """

    rounds: int = 4
    flips: int = 2
    outlier: float = 2.0
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= 100:
            raise InputError(f"sanitise: rounds is {self.rounds}; it must be from 1 to 100")
        if not 0 <= self.flips < self.rounds:
            raise InputError(
                f"sanitise: flips is {self.flips}; it must be from 0 to rounds - 1 = {self.rounds - 1}"
            )
        if not self.outlier > 0 or self.batch_size < 1 or self.seed < 0:
            raise InputError("sanitise: outlier and batch_size must be positive, and seed not negative")
