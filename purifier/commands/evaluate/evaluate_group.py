"""`impure-eval`: its commands; without a name it is `table1`."""

import click

from impure.manifests.commands.console import HELP, Group
from impure.purifier.commands.evaluate.adaptive_command import adaptive_command
from impure.purifier.commands.evaluate.figures.configured_command import fig7_command, fig8_command
from impure.purifier.commands.evaluate.figures.fig6_command import fig6_command
from impure.purifier.commands.evaluate.figures.fig9_command import fig9_command
from impure.purifier.commands.evaluate.figures.residual_command import residual_command
from impure.purifier.commands.evaluate.report_command import report_command
from impure.purifier.commands.evaluate.tables.compare_command import compare_command
from impure.purifier.commands.evaluate.tables.leaderboard_command import leaderboard_command
from impure.purifier.commands.evaluate.tables.table1_command import table1_command
from impure.purifier.commands.evaluate.tables.table_commands import table2_command, table3_command

DEFAULT = "table1"


class _WithDefault(Group):
    """Options without a command's name before them are those of the default command."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for option in self.get_params(ctx) for name in option.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


@click.group("impure-eval", cls=_WithDefault, context_settings=HELP)
@click.version_option(package_name="impure")
def evaluate() -> None:
    """Measure what defences are worth.

    `table1` measures accuracy on the stored, black-box attacks; it is meant where no command is named.
    `table2` has a line for every defence, `table3` tells attacks seen in training from others, `compare`
    pairs defences image by image. `adaptive` attacks through the defences; `fig6` to `fig9` and `residual`
    draw the paper's figures. `impure-eval COMMAND --help` lists the options of each.

    \b
      impure-eval --shards ROOT --checkpoint RUN/best
      impure-eval adaptive --shards ROOT --checkpoint RUN/best
    """


evaluate.add_command(table1_command)
evaluate.add_command(table2_command)
evaluate.add_command(table3_command)
evaluate.add_command(compare_command)
evaluate.add_command(adaptive_command)
evaluate.add_command(fig6_command)
evaluate.add_command(fig7_command)
evaluate.add_command(fig8_command)
evaluate.add_command(fig9_command)
evaluate.add_command(residual_command)
evaluate.add_command(report_command)
evaluate.add_command(leaderboard_command)
