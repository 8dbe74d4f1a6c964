"""Options in a YAML file: read in place of a command line, and written for the next one."""

from pathlib import Path
from typing import Any

import click

from impure.manifests.base.errors import first_line

UNSAVED = ("as_json", "dry_run", "profile")  # said of one call, not of a run


def read_options(context: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make what a file says the defaults, which the command line may change: callback of `--config`.

    Raises:
        click.BadParameter: The file cannot be read, names no option, or a value does not suit its option.
    """
    if path is None:
        return
    known = _options_by_name(context.command)
    defaults: dict[str, Any] = {}
    for key, value in _read(path).items():
        option = known.get(str(key).replace("-", "_"))
        if option is None:
            raise click.BadParameter(f"{path}: no option {str(key)!r}; see --help")
        if option.name in defaults:
            raise click.BadParameter(f"{path}: says {option.opts[0]} twice")
        defaults[str(option.name)] = _checked(context, option, value, f"{path}: {key}")
    context.default_map = {name: value for name, value in defaults.items() if value is not None}


def _options_by_name(command: click.Command) -> dict[str, click.Option]:
    """A command's options by all names that a file may call them, with underscores for hyphens."""
    return {
        name.lstrip("-").replace("-", "_"): option
        for option in command.params
        if isinstance(option, click.Option) and option.expose_value
        for name in (*option.opts, str(option.name))
    }


def _read(path: Path) -> dict[Any, Any]:
    """A YAML file that holds one mapping."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise click.BadParameter(f"{path}{line}: not a readable YAML file ({first_line(error)})") from error
    if not isinstance(content, dict | None):
        raise click.BadParameter(f"{path}: holds no options by name, one a line, such as `epochs: 3`")
    return content or {}


def _checked(context: click.Context, option: click.Option, value: Any, where: str) -> Any:
    """A value as it would be typed, which its option takes; None where the file leaves it open."""
    if value is None:
        return None
    try:
        if option.is_flag:
            typed: Any = _boolean(value)
        elif option.multiple:
            typed = [_word(item) for item in (value if isinstance(value, list) else [value])]
        else:
            typed = _word(value)
        option.type_cast_value(context, typed)
    except click.BadParameter as error:
        raise click.BadParameter(f"{where}: {error.message}") from error
    return typed


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise click.BadParameter(f"is {value!r:.60}; it must be true or false")
    return value


def _word(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise click.BadParameter(f"is {value!r:.60}; it must be a word (perhaps in quotes) or a number")
    return str(value)


def options_as_yaml() -> str:
    """What was asked for, on the command line or in a file, as a text for `--config`."""
    import yaml

    context = click.get_current_context()
    given = {
        name: _as_yaml(value)
        for name, value in context.params.items()
        if context.get_parameter_source(name) != click.core.ParameterSource.DEFAULT and name not in UNSAVED
    }
    text: str = yaml.safe_dump(given)
    return text


def _as_yaml(value: Any) -> Any:
    """An option's value as a YAML file can hold it."""
    if isinstance(value, tuple):
        return [_as_yaml(item) for item in value]
    return str(value) if isinstance(value, Path) else value
