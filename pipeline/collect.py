"""Drive a whole collection: plans for every split asked for, then every unit of every attack."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from impure.manifests.collection import Collection
from impure.pipeline.attacks import AttackConfig, Model
from impure.pipeline.generate import Job, UnitResult, generate, new_run_id, software
from impure.pipeline.plans import SPLITS_OF, Plan, SampleConfig
from impure.pipeline.sampling import classes_in, sample
from impure.pipeline.shards import sweep
from impure.pipeline.sources import Source
from impure.pipeline.targets import Target

Advance = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Collector:
    """A collection in the making: where it lies, its images, its target, what is sampled."""

    collection: Collection
    source: Source
    target: Target
    samples: Sequence[SampleConfig]

    def wanted(self) -> int:
        """Images that sampling looks for, over all splits.

        Raises:
            InputError: The source has no such split, or classes that nobody knows.
        """
        return sum(
            len(classes_in(self.source, self.target, config.split))
            * config.per_class
            * len(SPLITS_OF[config.split])
            for config in self.samples
        )

    def draw(self, *, allow_short: bool, advance: Advance) -> list[Plan]:
        """Sample every split, or find its frozen plan; then describe the collection (see `sample`)."""
        plans: list[Plan] = []
        for config in self.samples:
            plans += sample(
                self.collection, self.source, self.target, config, allow_short=allow_short, progress=advance
            )
        self.collection.write_about(software())
        return plans

    def make(
        self,
        plans: Sequence[Plan],
        attacks: Sequence[AttackConfig | None],
        seed: int,
        advance: Advance,
        compiled: Model | None = None,
    ) -> list[UnitResult]:
        """Make every unit that is not committed yet (see `generate`); None stands for the untouched pairs."""
        sweep(self.collection)
        run_id = new_run_id()
        results: list[UnitResult] = []
        for plan in plans:
            jobs = [
                Job(
                    collection=self.collection,
                    source=self.source,
                    target=self.target,
                    plan=plan,
                    attack=attack,
                    seed=seed,
                    batch_size=self.samples[0].batch_size,
                    run_id=run_id,
                    compiled=compiled,
                )
                for attack in attacks
            ]
            results += generate(jobs, advance)
        return results
