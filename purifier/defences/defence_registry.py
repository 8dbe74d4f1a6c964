"""The defences that can be compared, by name."""

from collections.abc import Mapping, Sequence

from impure.manifests.base.errors import InputError
from impure.purifier.defences.defence import Defence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.defences.static.jpeg import Jpeg
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Partition

#: Each is built without arguments, except for `riae`, which needs a trained purifier.
DEFENCES: dict[str, type[Defence]] = {
    "none": NoDefence,
    "jpeg": Jpeg,
    "riae": RIAEDefence,
}


def build_defences(
    names: Sequence[str],
    purifiers: RIAE | Mapping[str, RIAE] | None = None,
    *,
    partition: Partition = "uniform",
) -> dict[str, Defence]:
    """The defences of those names, in that order.

    Args:
        names: Keys of `DEFENCES`.
        purifiers: The trained purifier that `riae` needs; or several, by names that stand in its place.
        partition: How `riae` partitions an image's patches.

    Raises:
        InputError: A name or `partition` is unknown, or `riae` is asked for without a purifier.
    """
    if unknown := [name for name in names if name not in DEFENCES]:
        raise InputError(f"no defence {unknown[0]!r}; choose from {', '.join(DEFENCES)}")
    by_name = {"riae": purifiers} if isinstance(purifiers, RIAE) else purifiers or {}
    if "riae" in names and not by_name:
        raise InputError("defence 'riae' needs a trained purifier; give --checkpoint RUN")
    built: dict[str, Defence] = {}
    for name in names:
        if name == "riae":
            built |= {column: RIAEDefence(riae, partition=partition) for column, riae in by_name.items()}
        else:
            built[name] = DEFENCES[name]()
    return built
