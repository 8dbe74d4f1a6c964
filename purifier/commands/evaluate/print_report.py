"""The end of a measurement: its document for programs, or its tables for people and where the report is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from impure.manifests.commands.console import print_json, print_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from impure.purifier.evaluation.kind_files import Measured


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


def report_figure(
    measured: "Measured", plots: "Mapping[str, Figure]", lines: Sequence[str], out: Path, *, as_json: bool
) -> None:
    """Write what was measured with its plots and its page, and print it.

    Args:
        measured: What was measured.
        plots: By target.
        lines: For people; see `print_report`.
        out: The folder of the report.
        as_json: What `--json` says.

    Raises:
        WriteError: The folder cannot be written.
    """
    from impure.purifier.evaluation.kind_files import write_measured
    from impure.purifier.evaluation.reports.document_page import write_document_page

    paths = write_measured(measured, out, plots)
    paths.append(write_document_page(paths[0]))
    print_report(measured.document(), lines, paths, as_json=as_json)
