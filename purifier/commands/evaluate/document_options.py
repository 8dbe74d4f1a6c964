"""The options of commands that make one file of what impure-eval has measured."""

from pathlib import Path

import click

from impure.manifests.commands.click_options import Decorator, json_option, options


def document_options(default: str, what: str) -> Decorator:
    """Folders of documents, the file that is made of them, and --json.

    Args:
        default: The file's name.
        what: What it is called in --help.
    """
    return options(
        click.argument("folders", metavar="FOLDER...", nargs=-1, required=True,
            type=click.Path(path_type=Path)),
        click.option("--out", type=click.Path(path_type=Path), default=Path(default), show_default=True,
            help=f"The {what}; with a number behind its name where there is one already."),
        json_option,
    )  # fmt: skip
