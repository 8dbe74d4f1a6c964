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
    shards = _shards(config.get("data"), folder / CONFIG)
    kind = checkpoint_kind(folder)
    makes_attacks = kind is AdversarialTraining or _is_adversarial(config.get("train"))
    if not makes_attacks:
        from_clean = kind is not None and kind.network_kind.learns_from == "clean"
        shards = [] if from_clean else [shard for shard in shards if shard.attack != CLEAN]
    return TrainedOn(
        attacks=frozenset([OWN_ATTACK] if makes_attacks else [shard.attack for shard in shards]),
        targets=frozenset(shard.target for shard in shards),
        makes_attacks=makes_attacks,
        began_with=_began_with(config.get("init")),
    )


def _is_adversarial(train: Any) -> bool:
    """Whether RIAE was trained against its own attacker."""
    return isinstance(train, dict) and train.get("stage") == "adversarial"


def _shards(data: Any, where: Path) -> list[ShardId]:
    """The shards that a training learnt from, as its config says; none where they were photographs.

    Raises:
        InputError: It says neither.
    """
    told = data if isinstance(data, dict) else {}
    names = told.get("shards")
    shards = [parse_shard_id(f"{name}.done.json") for name in names] if isinstance(names, list) else []
    known = [shard for shard in shards if shard is not None]
    if known and len(known) == len(shards):
        return known
    if "photographs" in told:
        return []
    raise InputError(
        f"{where}: does not say which attacks it was trained on (data.shards); leave it out here, and "
        "compare it by impure-eval table2"
    )


def _began_with(init: Any) -> str:
    """The weights that a training began with, where they may have seen attacks: ours and the release's."""
    if not isinstance(init, dict) or init.get("origin") not in ("impure", "release"):
        return ""
    return f"{init.get('file')} ({str(init.get('sha256'))[:12]})"
