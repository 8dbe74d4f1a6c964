"""`impure-eval --defence list`: which defences there are, who published them, with which parameters."""

from typing import TYPE_CHECKING

import click

from impure.manifests.commands.console import print_json

if TYPE_CHECKING:
    from impure.purifier.defences.defence_registry import Entry


def print_defences(*, as_json: bool) -> None:
    """Print every defence with its source, gradient, parameters and what it needs."""
    from impure.purifier.defences.defence_registry import DEFENCES

    if as_json:
        return print_json(
            {
                name: {
                    "summary": _summary(entry),
                    "source": entry.kind.source,
                    "gradient": entry.kind.gradient,
                    "threat_model": entry.kind.threat_model,
                    "keeps_size": entry.kind.keeps_size,
                    "needs_weights": entry.needs_weights,
                    "extra": entry.kind.extra,
                    "parameters": entry.parameters,
                    "published_weights": _published(name),
                }
                for name, entry in DEFENCES.items()
            }
        )
    formatter = click.HelpFormatter()
    formatter.write_dl([(name, _description(name, entry)) for name, entry in DEFENCES.items()])
    return click.echo(formatter.getvalue(), nl=False)


def _summary(entry: "Entry") -> str:
    """The first sentence of the class's docstring."""
    return (entry.kind.__doc__ or "").strip().split("\n")[0]


def _description(name: str, entry: "Entry") -> str:
    """What a defence does, and what has to be known to use it, in one paragraph."""
    parts = [f"Gradient: {entry.kind.gradient}.", f"Published against: {entry.kind.threat_model}."]
    if parameters := ", ".join(f"{key}={_text(value)}" for key, value in entry.parameters.items()):
        parts.append(f"Parameters: {parameters}.")
    if entry.needs_weights:
        parts.append(f"Needs a trained network: --checkpoint RUN or {name}:weights=RUN.")
    if entry.kind.extra:
        parts.append(f"Needs packages: pip install 'impure[{entry.kind.extra}]'.")
    if not entry.kind.keeps_size:
        parts.append("Changes the size: needs a target that takes others.")
    if published := _published(name):
        parts.append(f"Its authors' weights: {name}:weights=published, {published}.")
    source = f"({entry.kind.source}) " if entry.kind.source else ""
    return f"{_summary(entry)} {source}{' '.join(parts)}"


def _text(value: object) -> str:
    """A parameter's value as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _published(name: str) -> str | None:
    """Address, licence and digest of the weights that the authors published, where they did."""
    from impure.purifier.defences.base.published_weights import PUBLISHED_WEIGHTS

    weights = PUBLISHED_WEIGHTS.get(name)
    return None if weights is None else str(weights)
