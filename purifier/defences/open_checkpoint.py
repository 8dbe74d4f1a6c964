"""Opens a run of impure-train as the defence that it is, RIAE or another."""

from pathlib import Path
from typing import NamedTuple

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.defence_registry import DEFENCES, NETWORKS
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.trained.base.network_defence import NetworkDefence
from impure.purifier.defences.trained.base.trained_weights import network_name
from impure.purifier.riae.pretrained import CONFIG, locate

RIAE_NAME = "riae"


class Checkpoint(NamedTuple):
    """A trained defence and its name: a key of `DEFENCES`."""

    name: str
    defence: Defence


def open_checkpoint(where: str | Path) -> Checkpoint:
    """Read a trained defence, on the CPU and in eval mode.

    Args:
        where: A run's folder, its `model.safetensors`, or a name on the Hugging Face Hub.

    Raises:
        InputError: It cannot be read, or holds no network that this version knows.
    """
    kind = checkpoint_kind(locate(where)[0])
    if kind is None:
        return Checkpoint(RIAE_NAME, RIAEDefence.from_weights(str(where)))
    (name, *_presets) = (name for name, entry in DEFENCES.items() if entry.kind is kind)
    return Checkpoint(name, kind.from_weights(str(where)).eval())


def checkpoint_kind(folder: Path) -> type[NetworkDefence] | None:
    """The defence whose network a folder's config.json describes; None for RIAE.

    Raises:
        InputError: It names a network that this version does not know.
    """
    name = network_name(read_json(folder / CONFIG))
    if name is not None and name not in NETWORKS:
        raise InputError(f"{folder / CONFIG}: no network {name!r:.60}; known are riae, {', '.join(NETWORKS)}")
    return None if name is None else NETWORKS[name]
