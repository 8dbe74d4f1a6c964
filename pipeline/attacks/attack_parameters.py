"""Parameters of attacks as a user sets them: read from text, converted to the type of the preset's."""

import math

from impure.manifests.base.errors import InputError

Value = float | int | bool


def parse_override(text: str) -> tuple[str, Value]:
    """Read a parameter as given on the command line, such as "steps=20" or "random_start=false".

    Raises:
        InputError: the text is not name=value with a finite number, true or false.
    """
    name, equals, written = (part.strip() for part in text.partition("="))
    if name and equals:
        value = _number(written.lower())
        if value is not None:
            return name, value
    raise InputError(f"cannot read {text!r}: write NAME=VALUE with a number, true or false, such as steps=20")


def _number(written: str) -> Value | None:
    if written in ("true", "false"):
        return written == "true"
    for kind in (int, float):
        try:
            value = kind(written)
        except ValueError:
            continue
        return value if math.isfinite(value) else None
    return None


def as_type_of(name: str, value: Value, kind: type) -> Value:
    """Return the value in its parameter's type; whole numbers pass for floats, nothing else is converted.

    Raises:
        InputError: it is of another type.
    """
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        words = {int: "a whole number", float: "a number", bool: "true or false"}
        raise InputError(f"{name} must be {words[kind]}, got {value!r}")
    return value
