"""Defences to compare: modules from [0,1] RGB (B, 3, H, W) to the same."""

from collections.abc import Sequence

from impure.manifests.errors import InputError
from impure.purifier.defences.base import Defence
from impure.purifier.defences.jpeg import Jpeg
from impure.purifier.defences.none import NoDefence
from impure.purifier.defences.riae import Riae
from impure.purifier.riae import RIAE

__all__ = ["DEFENCES", "Defence", "Jpeg", "NoDefence", "Riae", "build_defences"]

DEFENCES: dict[str, type[Defence]] = {"none": NoDefence, "jpeg": Jpeg, "riae": Riae}


def build_defences(names: Sequence[str], riae: RIAE | None = None) -> dict[str, Defence]:
    """The defences of those names, in that order.

    Args:
        names: Keys of `DEFENCES`.
        riae: The trained purifier that `riae` needs.

    Raises:
        InputError: A name is unknown, or `riae` is asked for without a checkpoint.
    """
    built: dict[str, Defence] = {}
    for name in names:
        if name not in DEFENCES:
            raise InputError(f"no defence {name!r}; choose from {', '.join(DEFENCES)}")
        if name == "riae" and riae is None:
            raise InputError("defence 'riae' needs a trained purifier; give --checkpoint RUN")
        built[name] = Riae(riae) if name == "riae" and riae is not None else DEFENCES[name]()
    return built
