"""Parameters of defences and sizes of networks: keyword-only arguments of a class, as text and as JSON."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from impure.manifests.base.errors import InputError

Value = bool | int | float | str

_KINDS: dict[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A keyword-only argument with a plain default.

    Attributes:
        name: Of the argument.
        kind: bool, int, float or str.
        default: Its value where nothing is said.
        choices: What it may be, where its type is a Literal of texts; empty for anything of its kind.
    """

    name: str
    kind: type
    default: Value
    choices: tuple[str, ...] = ()

    def read(self, text: str, where: str) -> Value:
        """The value that a text stands for.

        Raises:
            InputError: It stands for none of its kind; the message begins with `where`.
        """
        value: object = text
        if self.kind is bool:
            value = {"true": True, "false": False}.get(text.lower(), text)
        elif self.kind is not str:
            value = _number(self.kind, text)
        return self.check(value, where)

    def check(self, value: object, where: str) -> Value:
        """The value itself, if it is of the parameter's kind; a whole number passes for a float.

        Raises:
            InputError: It is not, or not finite.
        """
        if self.kind is float and type(value) is int:
            value = float(value)
        right = type(value) is self.kind and (not isinstance(value, float) or math.isfinite(value))
        if not right or (self.choices and value not in self.choices):
            wanted = " or ".join(self.choices) or _KINDS[self.kind]
            raise InputError(f"{where}: {self.name} is {value!r:.60}; it must be {wanted}")
        return value  # type: ignore[return-value]  # of the kind


def parameters_of(builder: Callable[..., Any]) -> dict[str, Parameter]:
    """The keyword-only arguments of a class or function that have plain defaults, by name."""
    function = builder.__init__ if isinstance(builder, type) else builder  # type: ignore[misc]
    hints = get_type_hints(function)
    return {
        argument.name: _parameter(argument.name, hints[argument.name], argument.default)
        for argument in inspect.signature(builder).parameters.values()
        if argument.kind is inspect.Parameter.KEYWORD_ONLY and isinstance(argument.default, Value)
    }


def check_values(
    builder: Callable[..., Any], values: Mapping[str, object], where: str, *, as_text: bool = False
) -> dict[str, Value]:
    """Values for the parameters of a class, each of its parameter's kind.

    Args:
        builder: The class.
        values: By parameter; from JSON, or as text.
        where: Where they come from, for error messages.
        as_text: Whether the values are texts to be read.

    Raises:
        InputError: A name is unknown, or a value of another kind.
    """
    known = parameters_of(builder)
    if unknown := [name for name in values if name not in known]:
        names = ", ".join(known) or "none"
        raise InputError(f"{where}: no parameter {unknown[0]!r:.60}; there are {names}")
    return {
        name: known[name].read(str(value), where) if as_text else known[name].check(value, where)
        for name, value in values.items()
    }


def _parameter(name: str, hint: Any, default: Value) -> Parameter:
    """A parameter by its annotation."""
    if get_origin(hint) is Literal:
        return Parameter(name=name, kind=str, default=default, choices=get_args(hint))
    return Parameter(name=name, kind=hint, default=default)


def _number(kind: type, text: str) -> object:
    """A number, or the text itself where it is none."""
    try:
        return kind(text)
    except ValueError:
        return text
