"""One clear line where something needs packages that are not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from impure.manifests.base.errors import InputError


@contextmanager
def needs_extra(name: str, extra: Literal["defences", "diffusion", "figures"]) -> Iterator[None]:
    """Around imports: what is missing is an input error that says what to install.

    Args:
        name: What needs the packages, as users call it.
        extra: The extra of this distribution that brings them.

    Raises:
        InputError: A package cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"{name} needs {error.name or error}, which is not installed: pip install 'impure[{extra}]'"
        ) from error
