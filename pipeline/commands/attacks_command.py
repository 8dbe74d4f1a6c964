"""`impure-data attacks`: which attacks there are, who published them, with which parameters."""

from typing import TYPE_CHECKING

import click

from impure.manifests.commands.click_options import json_option
from impure.manifests.commands.console import Command, print_json

if TYPE_CHECKING:
    from impure.pipeline.attacks.engine.attack_spec import AttackSpec, Params


@click.command("attacks", cls=Command)
@json_option
def attacks_command(as_json: bool) -> None:
    """List the attacks, with their sources and parameters.

    The paper's nine come first. Parameters are those of `generate --preset paper`, then what the presets
    release and cleverhans change; `--set` changes one.

    \b
      impure-data attacks
      impure-data generate --attack square --set queries=1000
    """
    from impure.pipeline.attacks.attack_registry import ATTACKS

    if as_json:
        return print_json(
            {
                name: {
                    "summary": spec.summary,
                    "source": spec.source,
                    "parameters": spec.paper,
                    "release": spec.release,
                    "cleverhans": spec.cleverhans,
                }
                for name, spec in ATTACKS.items()
            }
        )
    formatter = click.HelpFormatter()
    formatter.write_dl([(name, description(spec)) for name, spec in ATTACKS.items()])
    click.echo(formatter.getvalue(), nl=False)


def description(spec: "AttackSpec") -> str:
    """What an attack does, who published it, and its parameters, in one line."""
    changes = {"--preset release": spec.release, "--preset cleverhans": spec.cleverhans}
    parts = [
        _listed(spec.paper),
        *(f"{name}: {_listed(values)}" for name, values in changes.items() if values),
    ]
    return f"{spec.summary} ({spec.source}). {'; '.join(parts)}".rstrip()


def _listed(params: "Params") -> str:
    return ", ".join(f"{key}={value}" for key, value in params.items())
