"""What a checkpoint has seen in training, by its config: which attacks, on which targets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json
from impure.manifests.collection.shard_id import CLEAN, ShardId, parse_shard_id
from impure.purifier.defences.open_checkpoint import checkpoint_kind
from impure.purifier.defences.trained.adversarial_training import AdversarialTraining
from impure.purifier.riae.pretrained import CONFIG, locate

BLACK_BOX = "black-box"
TRANSFER = "transfer"
AGNOSTIC = "agnostic"
OWN_ATTACK = "pgd"  # what adversarial training makes in each update, through the defence or the target itself


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """What was seen in training.

    Attributes:
        attacks: Attack variants; none where it learnt from clean images alone.
        targets: Those that the attacks were made on.
        makes_attacks: Whether it made them in training, and saw no stored ones.
        began_with: Weights of another training that it began with, which may have seen more; "" for none.
    """

    attacks: frozenset[str]
    targets: frozenset[str]
    makes_attacks: bool = False
    began_with: str = ""

    def is_transfer(self, target: str) -> bool:
        """Whether it learnt from attacks, but from none on this target."""
        return bool(self.attacks) and target not in self.targets

    def threat_model(self, target: str, attack: str) -> str:
        """What the attacked images are to this checkpoint."""
        names = [TRANSFER] if self.is_transfer(target) else []
        names += [AGNOSTIC] if attack not in self.attacks else []
        return " and ".join(names) or BLACK_BOX

    def describe(self) -> str:
        """In words."""
        if not self.attacks:
            return "clean images alone"
        made = " of its own making" if self.makes_attacks else ""
        return f"{', '.join(sorted(self.attacks))}{made} on {', '.join(sorted(self.targets))}"


def trained_on(checkpoint: Path) -> TrainedOn:
    """Read what a checkpoint was trained on.

    Args:
        checkpoint: As `open_checkpoint` takes it.

    Raises:
        InputError: Its config does not say.
    """
    folder = locate(checkpoint)[0]
    config = read_json(folder / CONFIG)
    data = config.get("data")
    shards = _shards(data.get("shards")) if isinstance(data, dict) else []
    photographs = isinstance(data, dict) and "photographs" in data
    if not shards and not photographs:
        raise InputError(
            f"{folder / CONFIG}: does not say which attacks it was trained on (data.shards); leave it out "
            "here, and compare it by impure-eval table2"
        )
    began_with = _began_with(config.get("init"))
    kind = checkpoint_kind(folder)
    if kind is AdversarialTraining or _is_adversarial(config.get("train")):
        return TrainedOn(
            attacks=frozenset([OWN_ATTACK]),
            targets=frozenset(shard.target for shard in shards),
            makes_attacks=True,
            began_with=began_with,
        )
    if kind is not None and kind.network_kind.learns_from == "clean":
        shards = []
    attacked = [shard for shard in shards if shard.attack != CLEAN]
    return TrainedOn(
        attacks=frozenset(shard.attack for shard in attacked),
        targets=frozenset(shard.target for shard in attacked),
        began_with=began_with,
    )


def _is_adversarial(train: Any) -> bool:
    """Whether RIAE was trained against its own attacker."""
    return isinstance(train, dict) and train.get("stage") == "adversarial"


def _shards(names: Any) -> list[ShardId]:
    """The shards that a config lists; none where it lists anything else."""
    texts = names if isinstance(names, list) else []
    shards = [parse_shard_id(f"{text}.done.json") for text in texts]
    known = [shard for shard in shards if shard is not None]
    return known if len(known) == len(shards) else []


def _began_with(init: Any) -> str:
    """The weights that a training began with, where they may have seen attacks: ours and the release's."""
    if not isinstance(init, dict) or init.get("origin") not in ("impure", "release"):
        return ""
    return f"{init.get('file')} ({str(init.get('sha256'))[:12]})"
