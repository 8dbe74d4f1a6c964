"""Checks of the parameters that a user sets, each naming the value it refuses."""

import math

from impure.manifests.base.errors import InputError


def at_least(name: str, value: float, lowest: float) -> None:
    """Refuse a value below `lowest`.

    Raises:
        InputError: naming the parameter and the value.
    """
    if not lowest <= value < math.inf:
        raise InputError(f"{name} must be at least {lowest}, got {value}")


def positive(name: str, value: float) -> None:
    """Refuse zero, negative and infinite values.

    Raises:
        InputError: naming the parameter and the value.
    """
    if not 0 < value < math.inf:
        raise InputError(f"{name} must be greater than 0, got {value}")


def within(name: str, value: float, lowest: float, highest: float) -> None:
    """Refuse a value outside [lowest, highest].

    Raises:
        InputError: naming the parameter and the value.
    """
    if not lowest <= value <= highest:
        raise InputError(f"{name} must be from {lowest} to {highest}, got {value}")
