"""`impure-eval report`: everything that was measured, on one page."""

from pathlib import Path

import click

from impure.manifests.commands.console import HELP, Command, print_json, print_text, say
from impure.purifier.commands.evaluate.document_options import document_options


@click.command("report", cls=Command, context_settings=HELP)
@document_options("impure-report.html", "page")
def report_command(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Put everything that was measured on one page.

    Every JSON document that a command of impure-eval wrote below the folders becomes a section, with its
    tables, checks, plots and conditions. The page is one file that loads nothing; its tables can be sorted.
    What is broken or of an unknown kind is named, and the rest goes on.

    \b
      impure-eval report ./impure-runs ./impure-adaptive
      impure-eval report RUN/best --out results.html
    """
    from impure.manifests.base.files import write_text
    from impure.purifier.evaluation.kind_files import unused_file
    from impure.purifier.evaluation.reports.document_page import page_of_folders

    text, shown, complaints = page_of_folders(folders)
    for complaint in complaints:
        say(f"Not shown: {complaint}")
    path = write_text(unused_file(out), text)
    if as_json:
        return print_json({"page": str(path), "documents": shown, "not_shown": complaints})
    return print_text(f"{shown} document{'s' * (shown != 1)} on {path}")
