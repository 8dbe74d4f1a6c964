"""`impure-eval leaderboard`: what defences withstand, in RobustBench's fields."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from impure.manifests.commands.console import HELP, Command, print_json, print_text, say
from impure.purifier.commands.evaluate.document_options import document_options


@click.command("leaderboard", cls=Command, context_settings=HELP)
@document_options("leaderboard.json", "file")
def leaderboard_command(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Rank defences by what adaptive attacks leave of them.

    One entry for each defence, target and budget of the documents below the folders: those of `impure-eval
    adaptive`, with the mean over stored attacks (`table1`) beside them. Entries whose checks failed, or that
    nobody attacked through the defence, have no rank. What was not measured is null.

    \b
      impure-eval leaderboard ./impure-runs ./impure-adaptive --out leaderboard.json
    """
    from impure.manifests.base.errors import InputError
    from impure.manifests.base.files import write_text
    from impure.purifier.evaluation.kind_files import unused_file
    from impure.purifier.evaluation.reports.documents import find_documents
    from impure.purifier.evaluation.tables.leaderboard import (
        leaderboard,
        leaderboard_document,
        leaderboard_table,
    )

    documents, complaints = find_documents(folders)
    entries, refused = leaderboard(documents)
    complaints += refused
    for complaint in complaints:
        say(f"Left out: {complaint}")
    if not entries:
        raise InputError(f"{', '.join(map(str, folders))}: no results of impure-eval adaptive or table1")
    made = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "left_out": complaints}
    document = leaderboard_document(entries, made)
    path = write_text(unused_file(out), json.dumps(document, indent=1, allow_nan=False) + "\n")
    if as_json:
        return print_json(document)
    print_text(leaderboard_table(entries))
    return print_text(f"\nAccuracy in %, ranked by the worst case of all attacks and draws: {path}")
