"""Bounds of networks' sizes: a stranger's config.json must not fill the memory."""

from impure.manifests.base.errors import InputError


def check_sizes(network: str, **sizes: tuple[float, float]) -> None:
    """Make sure that each size of a network is at least 1 and at most its bound.

    Args:
        network: Its name, for error messages.
        sizes: (size, bound) by the size's name.

    Raises:
        InputError: One is not; the message names it.
    """
    for name, (size, most) in sizes.items():
        if not 1 <= size <= most:
            raise InputError(f"{network}: {name} is {size}; it must be from 1 to {most}")
