"""Fills templates of Markdown pages, such as the cards of collections and networks."""

from collections.abc import Mapping
from pathlib import Path

import jinja2


def render_markdown(template: Path, values: Mapping[str, object]) -> str:
    """The page that a Jinja template makes of some values; a value that it lacks is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    return environment.get_template(template.name).render(values)
