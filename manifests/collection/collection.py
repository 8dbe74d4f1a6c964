"""The paths of a collection, and what is committed in it."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from impure.manifests.base.canonical_json import digest
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import atomic_path, read_json, write_json
from impure.manifests.base.parquet import read_table, write_table
from impure.manifests.collection.marker import FileEntry, Marker, check_marker
from impure.manifests.collection.plan import FrozenPlan, PlanConfig, read_plan
from impure.manifests.collection.schema import MANIFEST, SCHEMA_VERSION, STATUS_OK, Row
from impure.manifests.collection.shard_id import ShardId, parse_shard_id
from impure.manifests.collection.storage import Storage


class TarOrigin(Protocol):
    """Where the tars of a cache come from; picklable, since shards go to other processes."""

    def fetch(self, shard: "CommittedShard") -> None:
        """Bring the tar of a shard to where it belongs, whole, unless it is there.

        Raises:
            ImpureError: It cannot be had.
        """


@dataclass(frozen=True, slots=True)
class CommittedShard:
    """A shard whose marker is there: the only kind that readers see.

    Attributes:
        shard_id: Which.
        stem: Path of its files without their extension.
        marker: What its completion marker says.
        origin: Where its tar comes from, in a cache; None in a collection that has its tars.
    """

    shard_id: ShardId
    stem: Path
    marker: Marker
    origin: TarOrigin | None = None

    @property
    def whole(self) -> bool:
        """Whether tar and manifest exist with the sizes that the marker says."""
        return all(path.is_file() and path.stat().st_size == entry["bytes"] for path, entry in self.files)

    @property
    def files(self) -> tuple[tuple[Path, FileEntry], ...]:
        """Tar and manifest, each with what the marker says of it."""
        return (self.tar, self.marker["tar"]), (self.manifest, self.marker["manifest"])

    @property
    def storage(self) -> Storage:
        """How its pairs are stored."""
        return Storage(**self.marker["config"]["storage"])

    def local_tar(self) -> Path:
        """The path of its tar, which is fetched first where the shard lies in a cache and its tar does not.

        Raises:
            ImpureError: It cannot be had.
        """
        if self.origin is not None and not self.whole:
            self.origin.fetch(self)
        return self.tar

    @property
    def tar(self) -> Path:
        """The WebDataset shard."""
        return self.stem.with_suffix(".tar")

    @property
    def manifest(self) -> Path:
        """Its Parquet manifest."""
        return self.stem.with_suffix(".parquet")

    @property
    def root(self) -> Path:
        """The collection's root."""
        return self.stem.parents[3]

    def sources(self) -> list[str]:
        """Names of the image sources of its target and split, from the frozen plan."""
        plan = Collection(self.root).plan(self.shard_id.target, self.shard_id.split)
        return [] if plan is None else [plan.config["source"]]

    def rows(self) -> tuple[pa.Table, dict[str, Any]]:
        """The manifest's rows, and the config in its metadata (see `parquet.read_table`)."""
        return read_table(self.manifest, MANIFEST)

    def stored_rows(self, *columns: str) -> list[Row]:
        """The manifest's rows of stored samples, in order.

        Args:
            columns: Those that may not be null.

        Raises:
            InputError: The manifest cannot be read, or one of them is null somewhere.
        """
        rows: list[Any] = [row for row in self.rows()[0].to_pylist() if row["status"] == STATUS_OK]
        if lacking := [name for name in columns if any(row[name] is None for row in rows)]:
            raise InputError(f"{self.manifest}: {lacking[0]} is null where a sample is stored")
        return rows


@dataclass(frozen=True)
class Collection:
    """A collection below `root`; nothing is read before it is asked for."""

    root: Path

    @property
    def about_path(self) -> Path:
        """Summary of the collection: versions, plans, target identities."""
        return self.root / "collection.json"

    def plan_path(self, target: str, split: str) -> Path:
        """The frozen plan of one target and split."""
        return self.root / "plans" / f"{target}-{split}.parquet"

    def stem(self, shard_id: ShardId) -> Path:
        """Path of a shard's files without their extension."""
        return self.root / str(shard_id)

    def marker_path(self, shard_id: ShardId) -> Path:
        """The completion marker, written last."""
        return self.stem(shard_id).with_suffix(".done.json")

    def find(self, pattern: str) -> list[Path]:
        """Paths below the targets' folders by glob; `_tmp`, which changes while one looks, is left out."""
        folders = [folder for folder in self.root.glob("[!_.]*") if folder.is_dir()]
        return [path for folder in folders for path in folder.glob(pattern)]

    def marked(self) -> list[ShardId]:
        """Every shard with a marker, readable or not, ordered by target, attack, split and shard."""
        names = (path.relative_to(self.root).as_posix() for path in self.find("*/*/*.done.json"))
        return sorted(shard_id for shard_id in map(parse_shard_id, names) if shard_id is not None)

    def read(self, shard_id: ShardId) -> CommittedShard:
        """Read a shard's marker.

        Raises:
            InputError: It cannot be read, or see `check_marker`.
        """
        path = self.marker_path(shard_id)
        return CommittedShard(shard_id, self.stem(shard_id), check_marker(read_json(path), str(path)))

    @cached_property
    def committed(self) -> list[CommittedShard]:
        """Every committed shard, ordered by target, attack, split and shard.

        Raises:
            InputError: A marker cannot be read; `marked` and `read` tell which shards are not affected.
        """
        return [self.read(shard_id) for shard_id in self.marked()]

    def readable(self) -> list[CommittedShard]:
        """Every shard whose marker can be read, in the same order."""
        shards = []
        for shard_id in self.marked():
            with suppress(InputError):
                shards.append(self.read(shard_id))
        return shards

    def plan_paths(self, target: str = "*") -> list[Path]:
        """The files of all frozen plans, or of one target's (and of others whose names begin with its)."""
        return sorted((self.root / "plans").glob(f"{target}-*.parquet"))

    def plan(self, target: str, split: str) -> FrozenPlan | None:
        """The frozen plan of one target and split; None where there is none.

        Raises:
            InputError: It is not what its file name says (see `read_plan`).
        """
        path = self.plan_path(target, split)
        return read_plan(path) if path.exists() else None

    def plans(self) -> dict[str, FrozenPlan]:
        """Every frozen plan, by file name without its ending.

        Raises:
            InputError: One is not what its file name says (see `read_plan`).
        """
        return {path.stem: read_plan(path) for path in self.plan_paths()}

    def begun_with(self, target: str = "") -> PlanConfig | None:
        """The config of any frozen plan, of one target or of all; None where there is none.

        Raises:
            InputError: A plan that was looked at is not what its file name says (see `read_plan`).
        """
        for plan in map(read_plan, self.plan_paths(target or "*")):
            if target in ("", plan.target):
                return plan.config
        return None

    def freeze_plan(self, split: str, table: pa.Table, config: Mapping[str, Any]) -> FrozenPlan:
        """Write the plan of the target that its config names, and read it back."""
        final = self.plan_path(config["target"]["name"], split)
        with atomic_path(final) as path:
            write_table(path, table, config)
        return read_plan(final)

    def missing(self) -> list[ShardId]:
        """Shards that the plans ask for and that are not committed, of attacks that have been begun."""
        begun = {
            (path.parts[-3], path.parts[-2], path.parts[-1]) for path in self.find("*/*") if path.is_dir()
        }
        wanted = {
            ShardId(target, attack, split, shard)
            for plan in self.plans().values()
            for target, attack, split in begun
            if (target, split) == (plan.target, plan.split)
            for shard in plan.shards
        }
        return sorted(wanted - set(self.marked()))

    def write_about(self, software: dict[str, Any]) -> None:
        """Write collection.json anew from the frozen plans."""
        plans = {name: plan.config for name, plan in self.plans().items()}
        about = {
            "schema_version": SCHEMA_VERSION,
            "config_digest": digest(plans),
            "plans": plans,
            "targets": {config["target"]["name"]: config["target"] for config in plans.values()},
            "sources": sorted({config["source"] for config in plans.values()}),
        }
        write_json(self.about_path, about | software)

    def about(self) -> dict[str, Any]:
        """What collection.json says."""
        return read_json(self.about_path)
