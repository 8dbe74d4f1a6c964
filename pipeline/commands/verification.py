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
from impure.pipeline.generation.progress import ProgressBar
from impure.pipeline.maintenance.repair import bad_shards, repair, shards_to_make
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
        samples: Of each shard, for replay.
        again: For replay: also attack each shard's first batch again.
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
        """What is wrong at the level asked for; of these shards alone the target is asked again."""
        collection = Collection(self.root)
        shard_ids = collection.marked()
        with progress(len(shard_ids), " shards") as advance:
            found = verify(collection, self.level if self.level in LEVELS else LEVELS[-1], advance)
        if self.level == "replay":
            whole = set(shard_ids if asked_again is None else asked_again) - set(bad_shards(found))
            found += self._replay(collection, sorted(whole))
        return found

    def mend(self, found: list[Finding], source: Source) -> list[Finding]:
        """Make the bad shards again and check them again; returns what is still wrong.

        Raises:
            InputError: See `repair`.
        """
        collection = Collection(self.root)
        shard_ids = shards_to_make(collection, found)
        targets = self._judges(collection, shard_ids, self.threads or 1)
        with ProgressBar(None, len(shard_ids), 1, cores()) as view:
            failed = repair(collection, shard_ids, source, targets, view)
        for shard_id, reason in failed.items():
            say(f"{shard_id}: {reason}")
        return self.check(shard_ids)

    def _judges(
        self, collection: Collection, shard_ids: Sequence[ShardId], threads: int
    ) -> dict[str, Target]:
        """The targets of some shards, on the device; markers that were edited have no say in it."""
        device, names = open_device(self.device, threads), {shard_id.target for shard_id in shard_ids}
        sound = [
            each for each in collection.readable()
            if each.shard_id.target in names and each.marker["config_digest"] == digest(each.marker["config"])
        ]  # fmt: skip
        found = classifiers_of(sound, self.targets, self.weights)
        return {name: target.to(device) for name, target in found.items()}

    def _replay(self, collection: Collection, shard_ids: Sequence[ShardId]) -> list[Finding]:
        """Ask the targets again; see `pipeline.replay`."""
        threads = self.threads or default_threads(collection.root, "", None)
        targets, found = self._judges(collection, shard_ids, threads), []
        with progress(len(shard_ids), " shards replayed") as advance:
            for shard_id in shard_ids:
                each, target = collection.read(shard_id), targets[shard_id.target]
                problem = next(replayed(each, target, self.samples), None)
                if problem is None and self.again:
                    problem = attacked_again(each, target)
                found += [] if problem is None else [Finding(str(shard_id), problem)]
                advance(1)
        return found
