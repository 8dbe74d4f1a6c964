from dataclasses import dataclass, field

import click
import pytest
from click.testing import CliRunner

from impure.manifests.commands.click_options import comma_separated, default_of, shown_default


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    epochs: int = 100
    names: list[str] = field(default_factory=list)


PRESETS = {"base": {}, "small": {"rate": 1}, "tiny": {"epochs": 3}}


def test_a_default_comes_from_its_field():
    assert default_of(Config, "epochs") == 100
    for name in ("epoch", "names"):
        with pytest.raises(LookupError, match=f"Config.{name} has no default"):
            default_of(Config, name)


def test_only_presets_that_differ_are_shown():
    assert shown_default(Config, "epochs") == "100"
    assert shown_default(Config, "epochs", PRESETS) == "100; tiny: 3"


def test_help_shows_the_default_of_an_option_that_stays_none():
    @click.command()
    @click.option("--epochs", type=int, show_default=shown_default(Config, "epochs", PRESETS), help="Passes.")
    def command(epochs: int | None) -> None:
        click.echo(epochs)

    assert "[default: (100; tiny: 3)]" in CliRunner().invoke(command, ["--help"]).output
    assert CliRunner().invoke(command, []).output == "\n"


def test_names_are_separated_by_commas():
    assert comma_separated(" a, b,,c ") == ["a", "b", "c"]
    assert comma_separated(None) == comma_separated(",") == []
