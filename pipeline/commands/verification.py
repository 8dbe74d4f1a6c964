"""What `impure-data verify` does: check, ask the targets again, make what is wrong again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from impure.manifests.base.canonical_json import digest
from impure.manifests.checks.verify import LEVELS, Finding, verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.commands.console import progress, say
from impure.pipeline.commands.parse_options import default_threads
from impure.pipeline.devices import cores, open_device
from impure.pipeline.generation.progress import ProgressView
from impure.pipeline.maintenance.repair import bad_units, repair, units_to_make
from impure.pipeline.maintenance.replay import attacked_again, replayed
from impure.pipeline.sources.source import Source
from impure.pipeline.targets.of_collection import classifiers_of
from impure.pipeline.targets.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Checker:
    """Checks one collection with bars on standard error.

    Attributes:
        root: Of the collection.
        level: One of `verify.LEVELS`, or `replay`: all of these and the target.
        samples: Of each unit, for replay.
        again: For replay: also attack each unit's first batch again.
        targets: See `classifiers_of`.
        weights: Likewise.
        device: See `open_device`.
        threads: None for as many as the collection was begun with; for repairs, until they begin, 1.
    """

    root: Path
    level: str
    samples: int
    again: bool
    targets: tuple[str, ...]
    weights: Path | None
    device: str
    threads: int | None

    def check(self, asked_again: Sequence[ShardId] | None = None) -> list[Finding]:
        """What is wrong at the level asked for; of these units alone the target is asked again."""
        collection = Collection(self.root)
        units = collection.marked()
        with progress(len(units), " units") as advance:
            found = verify(collection, self.level if self.level in LEVELS else LEVELS[-1], advance)
        if self.level == "replay":
            whole = set(units if asked_again is None else asked_again) - set(bad_units(found))
            found += self._replay(collection, sorted(whole))
        return found

    def mend(self, found: list[Finding], source: Source) -> list[Finding]:
        """Make the bad units again and check them again; returns what is still wrong.

        Raises:
            InputError: See `repair`.
        """
        collection = Collection(self.root)
        units = units_to_make(collection, found)
        targets = self._judges(collection, units, self.threads or 1)
        with ProgressView(None, len(units), 1, cores()) as view:
            failed = repair(collection, units, source, targets, view)
        for unit, reason in failed.items():
            say(f"{unit}: {reason}")
        return self.check(units)

    def _judges(self, collection: Collection, units: Sequence[ShardId], threads: int) -> dict[str, Target]:
        """The targets of some units, on the device; markers that were edited have no say in it."""
        device, names = open_device(self.device, threads), {unit.target for unit in units}
        sound = [
            each for each in collection.readable()
            if each.unit.target in names and each.marker["config_digest"] == digest(each.marker["config"])
        ]  # fmt: skip
        found = classifiers_of(sound, self.targets, self.weights)
        return {name: target.to(device) for name, target in found.items()}

    def _replay(self, collection: Collection, units: Sequence[ShardId]) -> list[Finding]:
        """Ask the targets again; see `pipeline.replay`."""
        threads = self.threads or default_threads(collection.root, "", None)
        targets, found = self._judges(collection, units, threads), []
        with progress(len(units), " units replayed") as advance:
            for unit in units:
                each, target = collection.read(unit), targets[unit.target]
                problem = next(replayed(each, target, self.samples), None)
                if problem is None and self.again:
                    problem = attacked_again(each, target)
                found += [] if problem is None else [Finding(str(unit), problem)]
                advance(1)
        return found
