"""Canonical JSON of configs, its SHA-256 digest, the way back, and how two configs differ."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar

from impure.manifests.base.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    ConfigT = TypeVar("ConfigT", bound=DataclassInstance)
else:
    ConfigT = TypeVar("ConfigT")

MAX_DEPTH = 32
"""Of nesting in JSON that others wrote."""


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


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object that a stranger may have written; `canonical_json` can write what comes back.

    Args:
        text: The JSON.
        where: Its file, for the error message.

    Raises:
        InputError: It is no JSON, no object, nested deeper than `MAX_DEPTH`, or holds NaN or infinity, which
            Python's reader alone would take.
    """
    try:
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not a readable JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, got {type(value).__name__}")
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
    if level:
        raise InputError(f"{where}: its JSON is nested deeper than {MAX_DEPTH}")
    return value


def _finite(text: str) -> float:
    """A number as JSON has it: 1e999 would become infinite."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is no finite number")
    return number


def _children(value: Any) -> list[Any]:
    """What an object or array holds."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


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
    lines: list[str] = []
    for key in sorted(set(ours) | set(theirs)):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            lines += [f"{key}.{line}" for line in differing_fields(mine, other)]
        elif mine != other:
            lines.append(f"{key} (there {json.dumps(other)}, now {json.dumps(mine)})")
    return lines
