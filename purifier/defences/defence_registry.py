"""The defences that can be compared, by name."""

from collections.abc import Sequence

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defence import Defence
from impure.purifier.defences.jpeg import Jpeg
from impure.purifier.defences.none import NoDefence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition

#: Each is built without arguments, except for `riae`, which needs a trained purifier.
DEFENCES: dict[str, type[Defence]] = {
    "none": NoDefence,
    "jpeg": Jpeg,
    "riae": RIAEDefence,
}


def build_defences(
    names: Sequence[str], riae: RIAE | None = None, *, partition: Partition = "uniform"
) -> dict[str, Defence]:
    """The defences of those names, in that order.

    Args:
        names: Keys of `DEFENCES`.
        riae: The trained purifier that `riae` needs.
        partition: How `riae` partitions an image's patches.

    Raises:
        InputError: A name or `partition` is unknown, or `riae` is asked for without a purifier.
    """
    if unknown := [name for name in names if name not in DEFENCES]:
        raise InputError(f"no defence {unknown[0]!r}; choose from {', '.join(DEFENCES)}")
    if "riae" not in names:
        return {name: DEFENCES[name]() for name in names}
    if riae is None:
        raise InputError("defence 'riae' needs a trained purifier; give --checkpoint RUN")
    purifier = RIAEDefence(riae, partition=partition)
    return {name: purifier if name == "riae" else DEFENCES[name]() for name in names}
