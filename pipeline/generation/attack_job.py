"""One attack on one plan, with all that it needs, and what its shards are made with."""

import platform
import time
import uuid
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch

from impure.manifests.base.canonical_json import plain
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import find_committed
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.schema import SCHEMA_VERSION
from impure.manifests.collection.shard_id import CLEAN, ShardId
from impure.manifests.collection.storage import Storage
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.gradients import Model
from impure.pipeline.sources.source import Source
from impure.pipeline.targets.target import Target

SOFTWARE = ("torch", "torchvision", "timm", "numpy", "pillow")


@dataclass(frozen=True, kw_only=True)
class AttackJob:
    """One attack on the plan of one split, with all that it needs.

    Attributes:
        attack: None for the untouched pairs.
        seed: Of every draw.
        batch_size: Images attacked at once. Part of the config, because float32 rounding depends on it.
        compiled: The target compiled, to attack through; None runs it as it is. The verdict never uses it.
        storage: How the pairs are stored.
    """

    collection: Collection
    source: Source
    target: Target
    plan: FrozenPlan
    attack: AttackConfig | None
    seed: int
    batch_size: int
    run_id: str
    compiled: Model | None = None
    storage: Storage = Storage()

    @property
    def attack_name(self) -> str:
        """Folder name of the attack."""
        return CLEAN if self.attack is None else self.attack.variant

    def config(self) -> dict[str, Any]:
        """Everything that decides the stored pixels, as JSON."""
        attack = (
            {"name": CLEAN} if self.attack is None else {**asdict(self.attack), "params": self.attack.params}
        )
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "plan": self.plan.digest,
                "target": self.target.identity(),
                "attack": attack,
                "seed": self.seed,
                "batch_size": self.batch_size,
                "compiled": self.compiled is not None,
                "storage": asdict(self.storage),
            }
        )

    def shard_id(self, shard: int) -> ShardId:
        """The unit of one of the plan's shards."""
        return ShardId(self.target.card.name, self.attack_name, self.plan.split, shard)

    def committed(self, shard: int) -> CommittedShard | None:
        """A shard that is there and whole (see `find_committed`); None if it has to be made."""
        return find_committed(self.collection, self.shard_id(shard), self.config())

    def facts(self, together: list[int]) -> dict[str, Any]:
        """What a shard's marker records beside the config.

        Args:
            together: How many of the stored images were attacked at once, call by call.
        """
        library = "impure" if self.attack is None else self.attack.implementation
        run = {"run_id": self.run_id, "attacked_together": together}
        return run | circumstances(self.target) | software(library)


def circumstances(target: Target) -> dict[str, Any]:
    """What float32 rounding depends on beside the batch."""
    device = target.mean.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return {"threads": torch.get_num_threads(), "device": f"{device.type} {name}"}


def new_run_id() -> str:
    """A name for one run of the program, sortable by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def software(library: str = "impure") -> dict[str, Any]:
    """Versions of what computed the pixels, the attacks' own library among them."""
    versions = {name: version(name) for name in (*SOFTWARE, library)}
    return {"software": versions | {"python": platform.python_version()}}
