"""The end of a measurement: its document for programs, or its tables for people and where the report is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from impure.manifests.commands.console import print_json, print_text


def print_report(
    document: Mapping[str, Any], lines: Sequence[str], paths: Sequence[Path], *, as_json: bool
) -> None:
    """Print what was measured.

    Args:
        document: All of it, printed alone where it is asked for.
        lines: Otherwise, tables and what has to be known to read them.
        paths: The files of the report.
        as_json: What `--json` says.
    """
    if as_json:
        return print_json(document)
    for line in lines:
        print_text(line)
    return print_text("Report: " + " ".join(map(str, paths)))
