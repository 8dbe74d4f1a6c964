"""An attack job: one attack on one plan, with all that it needs, and what its shards' markers record."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, TypedDict

import torch

from impure.manifests.base.canonical_json import plain
from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import Collection, CommittedShard
from impure.manifests.collection.commit import find_committed
from impure.manifests.collection.plan import FrozenPlan
from impure.manifests.collection.schema import SCHEMA_VERSION
from impure.manifests.collection.shard_id import CLEAN, ShardId
from impure.manifests.collection.storage import Storage
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.engine.compiled_target import CompiledTarget
from impure.pipeline.sources.source import Source
from impure.pipeline.targets.target import MEMORY_FORMATS, Target

SOFTWARE = ("torch", "torchvision", "timm", "numpy", "pillow")


class Circumstances(TypedDict):
    """What float32 rounding depends on beside the batch: CPU threads, and the device with its name."""

    threads: int
    device: str


class Software(TypedDict):
    """Versions by name of what computed the pixels."""

    software: dict[str, str]


class ShardFacts(Circumstances, Software):
    """What a marker records beside the config: the run, and the sizes of its batches."""

    run_id: str
    attacked_together: list[int]


@dataclass(frozen=True, kw_only=True)
class AttackJob:
    """One attack on the plan of one split, with all that it needs.

    Attributes:
        attack: None for the untouched pairs.
        seed: Of every random stream.
        batch_size: Images attacked at once. Part of the config, because float32 rounding depends on it.
        compiled: The target to compile and attack through; None runs it as it is. The verdict never uses it.
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
    compiled: CompiledTarget | None = None
    storage: Storage = Storage()

    @property
    def attack_name(self) -> str:
        """Folder name of the attack."""
        return CLEAN if self.attack is None else self.attack.variant

    @property
    def memory_format(self) -> str:
        """How images and weights lie in memory, as the plan says for the attack's precision.

        Raises:
            InputError: The plan does not say it.
        """
        precision = "fp32" if self.attack is None else self.attack.precision
        formats = self.plan.config.get("memory_formats")
        chosen = formats.get(precision) if isinstance(formats, dict) else None
        if not isinstance(chosen, str) or chosen not in MEMORY_FORMATS:
            raise InputError(f"{self.plan.path}: says no memory format for {precision}; choose another --out")
        return chosen

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
                "memory_format": self.memory_format,
                "compiled": self.compiled is not None,
                "storage": asdict(self.storage),
            }
        )

    def shard_id(self, number: int) -> ShardId:
        """The identity of a shard of this job, by its number in the plan."""
        return ShardId(self.target.card.name, self.attack_name, self.plan.split, number)

    def committed(self, number: int) -> CommittedShard | None:
        """A shard that is committed and whole (see `find_committed`); None if it has to be made."""
        return find_committed(self.collection, self.shard_id(number), self.config())

    def facts(self, batch_sizes: list[int]) -> ShardFacts:
        """What a shard's marker records beside the config.

        Args:
            batch_sizes: How many of the stored images were attacked at once, call by call.
        """
        library = "impure" if self.attack is None else self.attack.implementation
        return {
            "run_id": self.run_id,
            "attacked_together": batch_sizes,
            **circumstances(self.target),
            **software(library),
        }


def circumstances(target: Target) -> Circumstances:
    """What float32 rounding depends on beside the batch."""
    device = target.mean.device
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else torch.backends.cpu.get_cpu_capability()
    )
    return {"threads": torch.get_num_threads(), "device": f"{device.type} {name}"}


def software(library: str = "impure") -> Software:
    """Versions of what computed the pixels, the attacks' own library among them."""
    versions = {name: version(name) for name in (*SOFTWARE, library)}
    return {"software": versions | {"python": platform.python_version()}}
