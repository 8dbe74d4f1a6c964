"""Defences to compare: modules from [0,1] RGB (B, 3, H, W) to the same."""

from collections.abc import Sequence

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defence import Defence
from impure.purifier.defences.jpeg import Jpeg
from impure.purifier.defences.none import NoDefence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition

__all__ = ["DEFENCES", "Defence", "Jpeg", "NoDefence", "RIAEDefence", "build_defences"]

DEFENCES: dict[str, type[Defence]] = {"none": NoDefence, "jpeg": Jpeg, "riae": RIAEDefence}


def build_defences(
    names: Sequence[str], riae: RIAE | None = None, *, partition: Partition = "uniform"
) -> dict[str, Defence]:
    """The defences of those names, in that order.

    Args:
        names: Keys of `DEFENCES`.
        riae: The trained purifier that `riae` needs.
        partition: How `riae` divides an image's patches.

    Raises:
        InputError: A name or `partition` is unknown, or `riae` is asked for without a
            checkpoint.
    """
    if unknown := [name for name in names if name not in DEFENCES]:
        raise InputError(f"no defence {unknown[0]!r}; choose from {', '.join(DEFENCES)}")
    built: dict[str, Defence] = {}
    for name in names:
        if name != "riae":
            built[name] = DEFENCES[name]()
        elif riae is None:
            raise InputError("defence 'riae' needs a trained purifier; give --checkpoint RUN")
        else:
            built[name] = RIAEDefence(riae, partition=partition)
    return built
