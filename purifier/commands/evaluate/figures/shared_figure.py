"""What the commands of figures share: their options, and the report with a plot for each target."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from impure.manifests.commands.click_options import Decorator, options
from impure.purifier.commands.evaluate.measure_options import (
    DefenceInputs,
    data_options,
    provenance,
    run_options,
    seed_option,
)
from impure.purifier.commands.evaluate.print_report import print_report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from impure.purifier.evaluation.kind_files import Measured


def figure_options(*own: Decorator) -> Decorator:
    """A figure's own options, between those of the data and those of the run."""
    return options(data_options(), *own, seed_option, run_options)


def report_figure(
    inputs: DefenceInputs,
    measured: "Measured",
    plot: "Callable[[str], Figure]",
    lines: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Write what was measured with its plots and its page, and print it.

    Args:
        inputs: What it was measured on: what made the numbers is added to the conditions.
        measured: What was measured; its rows name their targets.
        plot: Draws a target, by its name.
        lines: For people; see `print_report`.
        as_json: What `--json` says.

    Raises:
        WriteError: The folder of the report cannot be written.
    """
    from impure.purifier.evaluation.kind_files import write_measured
    from impure.purifier.evaluation.reports.document_page import write_document_page

    measured = replace(measured, conditions={**measured.conditions, **provenance(inputs)})
    targets = dict.fromkeys(str(row["target"]) for row in measured.rows)
    paths = write_measured(measured, inputs.measured.out, {target: plot(target) for target in targets})
    paths.append(write_document_page(paths[0]))
    print_report(measured.document(), lines, paths, as_json=as_json)
