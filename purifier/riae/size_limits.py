"""The largest RIAE that is loaded: a config that a stranger wrote must not fill the memory."""

from impure.manifests.base.errors import InputError
from impure.purifier.riae.riae_config import RIAEConfig

LARGEST = {
    "patch": 256,
    "grid": 256,
    "encoder_dim": 4096,
    "encoder_depth": 64,
    "encoder_heads": 256,
    "decoder_dim": 4096,
    "decoder_depth": 64,
    "decoder_heads": 256,
    "subsets": 4,
    "image_step": 999,
    "feature_step": 999,
    "position_period": 1e9,
    "position_scale": 1e9,
}
MAX_POSITIONS = 1 << 27  # numbers in both position tables together


def check_sizes(config: RIAEConfig, where: str) -> None:
    """Make sure that a network that a stranger describes can be built, and is not too large to try.

    Raises:
        InputError: A size is no number, or beyond `LARGEST` or `MAX_POSITIONS`.
    """
    for name, largest in LARGEST.items():
        value = getattr(config, name)
        if not isinstance(value, type(largest) | int) or isinstance(value, bool) or value > largest:
            raise InputError(f"{where}: {name} is {value!r:.40}; a number up to {largest} is taken")
    fusion = config.fusion
    if not isinstance(fusion, tuple) or any(type(block) is not int for block in fusion):
        raise InputError(f"{where}: fusion is {fusion!r:.40}; it must be a list of block numbers")
    if len(set(fusion)) != len(fusion):
        raise InputError(f"{where}: fusion {fusion!r:.40} names a block twice")
    if (positions := config.grid**2 * (config.encoder_dim + config.decoder_dim)) > MAX_POSITIONS:
        raise InputError(f"{where}: refused, grid {config.grid} makes position tables of {positions} numbers")
