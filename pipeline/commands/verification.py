"""What `impure-data verify` does: check, classify again, make what is wrong again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from impure.manifests.base.canonical_json import digest
from impure.manifests.checks.verify import LEVELS, Finding, verify
from impure.manifests.collection.collection import Collection
from impure.manifests.collection.shard_filter import filter_shards
from impure.manifests.collection.shard_id import ShardId
from impure.manifests.commands.console import progress, say, say_where_the_log_is
from impure.pipeline.commands.sample_arguments import default_threads
from impure.pipeline.devices import cores, open_device
from impure.pipeline.generation.progress import ProgressBar
from impure.pipeline.generation.time_left import Costs
from impure.pipeline.maintenance.repair import bad_shards, repair, repair_tasks, shards_to_make
from impure.pipeline.maintenance.replay import attacked_again, replayed
from impure.pipeline.sources.source import Source
from impure.pipeline.targets.of_collection import classifiers_of
from impure.pipeline.targets.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """How to check a collection.

    Attributes:
        level: One of `verify.LEVELS`, or `replay`: all of these and the target.
        attacks: Folder names of the attacks whose shards are checked; empty for all.
        splits: Splits whose shards are checked; empty for all.
        samples: Of each shard, for replay.
        again: For replay: also attack each shard's first batch again.
        targets: See `classifiers_of`.
        weights: See `classifiers_of`.
        device: See `open_device`.
        threads: None for as many as the collection was begun with; for repairs, until they begin, 1.
    """

    level: str
    attacks: Sequence[str]
    splits: Sequence[str]
    samples: int
    again: bool
    targets: tuple[str, ...]
    weights: tuple[str, ...]
    device: str
    threads: int | None

    def wants(self, shard_id: ShardId) -> bool:
        """Whether a shard is checked."""
        fits = not self.attacks or shard_id.attack in self.attacks
        return fits and (not self.splits or shard_id.split in self.splits)


@dataclass(frozen=True, slots=True)
class Checker:
    """Checks the collection at `root`, with bars on standard error."""

    root: Path
    options: CheckOptions

    def shard_ids(self) -> list[ShardId]:
        """The shards that are checked, of those that have a marker.

        Raises:
            InputError: There is none of an attack or a split that was asked for.
        """
        marked = Collection(self.root).marked()
        if not marked:
            return []
        return filter_shards(str(self.root), marked, attacks=self.options.attacks, splits=self.options.splits)

    def check(self, only: Sequence[ShardId] | None = None) -> list[Finding]:
        """What is wrong at the level asked for.

        Args:
            only: For replay: the shards that are classified again; None for all.
        """
        level = self.options.level
        collection = Collection(self.root)
        shard_ids = self.shard_ids()
        replayed_ids = shard_ids if only is None else only
        # A target that is missing is said at once, not after hours of decoding.
        targets = self._classifiers(collection, replayed_ids, self._threads()) if level == "replay" else {}
        with progress(len(shard_ids), " shards") as advance:
            findings = verify(
                collection, level if level in LEVELS else LEVELS[-1], advance, self.options.wants
            )
        if level == "replay":
            sound = set(replayed_ids) - set(bad_shards(findings))
            findings += self._replay(collection, sorted(sound), targets)
        return findings

    def repair(self, findings: list[Finding], source: Source) -> list[Finding]:
        """Make the bad shards again and check them again; returns what is still wrong.

        Raises:
            InputError: See `repair`.
        """
        collection = Collection(self.root)
        shard_ids = shards_to_make(collection, findings)
        targets = self._classifiers(collection, shard_ids, self.options.threads or 1)
        with ProgressBar(repair_tasks(collection, shard_ids), Costs({}), 1, cores()) as bar:
            failed = repair(collection, shard_ids, source, targets, bar)
        for shard_id, reason in failed.items():
            say(f"{shard_id}: {reason}")
        say_where_the_log_is()
        return self.check(shard_ids)

    def _classifiers(
        self, collection: Collection, shard_ids: Sequence[ShardId], threads: int
    ) -> dict[str, Target]:
        """The targets of some shards, on the device; markers that were edited do not count."""
        device = open_device(self.options.device, threads)
        names = {shard_id.target for shard_id in shard_ids}
        sound = [
            shard
            for shard in collection.readable()
            if shard.marker["config_digest"] == digest(shard.marker["config"])
        ]
        targets = classifiers_of(sound, self.options.targets, self.options.weights, names=names)
        return {name: target.to(device) for name, target in targets.items()}

    def _threads(self) -> int:
        """CPU threads for replay: rounding depends on them."""
        return self.options.threads or default_threads(self.root, "", None)

    def _replay(
        self, collection: Collection, shard_ids: Sequence[ShardId], targets: Mapping[str, Target]
    ) -> list[Finding]:
        """Classify again; see `pipeline.maintenance.replay`."""
        findings = []
        with progress(len(shard_ids), " shards replayed") as advance:
            for shard_id in shard_ids:
                problem = self._problem(collection, shard_id, targets[shard_id.target])
                findings += [] if problem is None else [Finding(str(shard_id), problem)]
                advance(1)
        return findings

    def _problem(self, collection: Collection, shard_id: ShardId, target: Target) -> str | None:
        """What the target, or the attack, gives otherwise than a shard says; the first only."""
        shard = collection.read(shard_id)
        problem = next(replayed(shard, target, self.options.samples), None)
        if problem is None and self.options.again:
            return attacked_again(shard, target)
        return problem
