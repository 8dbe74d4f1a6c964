"""Options that all commands share, and helpers to declare others.

How a help text comes by its default, so that none is typed a second time:

- The option always has a value, that of a dataclass's field:
  `click.option("--seed", default=default_of(SampleConfig, "seed"), show_default=True, help=…)`
- The option stays None where nobody gave it, as the preset decides:
  `click.option("--epochs", show_default=shown_default(TrainConfig, "epochs", TRAINING), help=…)`
- The default is worked out later, and can only be told in words:
  `click.option("--out", show_default="ROOT-pairs", help=…)`

The dataclass must be importable without torch, numpy and the like: `--help` has to answer at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def default_of(config: type, field: str) -> Any:
    """The default of a dataclass's field.

    Raises:
        LookupError: The dataclass has no such field, or the field no plain default.
    """
    defaults = {known.name: known.default for known in fields(config)}
    if defaults.get(field, MISSING) is MISSING:
        raise LookupError(f"{config.__name__}.{field} has no default")
    return defaults[field]


def shown_default(config: type, field: str, presets: Mapping[str, Mapping[str, object]] | None = None) -> str:
    """A field's default as `--help` shows it, with the presets that differ: `100; tiny: 3`.

    Args:
        config: The dataclass.
        field: Its field.
        presets: Preset -> the fields that it sets.

    Raises:
        LookupError: See `default_of`.
    """
    default = default_of(config, field)
    special = {name: values.get(field, default) for name, values in (presets or {}).items()}
    differing = [f"{name}: {value}" for name, value in special.items() if value != default]
    return "; ".join([str(default), *differing])


def comma_separated(text: str | None) -> list[str]:
    """The names in an option's comma-separated text; none where it was not given."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def options(*decorators: Decorator) -> Decorator:
    """Bundle options into one decorator, in the order in which --help shows them."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on standard output."
)
root_argument = click.argument("root", type=click.Path(path_type=Path, exists=True, file_okay=False))
device_options = options(
    click.option(
        "--device",
        default="auto",
        show_default=True,
        help="Where to compute: auto (the best there is), cpu, cuda, cuda:1 or mps.",
    ),
    click.option(
        "--threads",
        type=click.IntRange(min=1),
        show_default="all cores; 1 for the built-in, tiny networks",
        help="Number of CPU threads.",
    ),
)
