"""Frozen dataclasses to canonical JSON and its SHA-256 digest, and back."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from impure.manifests.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    ConfigT = TypeVar("ConfigT", bound=DataclassInstance)
else:
    ConfigT = TypeVar("ConfigT")


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no blanks, ASCII, no NaN.

    Args:
        value: A dataclass instance or anything that JSON can hold.

    Raises:
        ValueError: The value holds NaN or infinity.
    """
    plain = asdict(value) if hasattr(value, "__dataclass_fields__") else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> dict[str, Any]:
    """`value` as it comes back from JSON: mappings and lists only, so that comparisons see no other type."""
    parsed: dict[str, Any] = json.loads(canonical_json(value))
    return parsed


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def from_mapping(cls: type[ConfigT], values: Mapping[str, Any], where: str) -> ConfigT:
    """Build a config dataclass from parsed JSON; lists become tuples.

    Args:
        cls: The dataclass to build.
        values: Its fields by name.
        where: The file or option they came from, for the error message.

    Raises:
        InputError: A key is unknown or missing, or the dataclass refuses a value.
    """
    known = [field.name for field in fields(cls)]
    if unknown := sorted(set(values) - set(known)):
        raise InputError(f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(known)}")
    frozen = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        return cls(**frozen)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from error


def differing_fields(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Name every (dotted) field in which two parsed configs differ, with both values."""
    found: list[str] = []
    for key in sorted(set(ours) | set(theirs)):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found += [f"{key}.{line}" for line in differing_fields(mine, other)]
        elif mine != other:
            found.append(f"{key} (there {json.dumps(other)}, now {json.dumps(mine)})")
    return found
