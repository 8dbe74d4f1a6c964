"""`impure-data`: the group of commands that make and keep collections."""

import click

from impure.manifests.commands.console import HELP, Group
from impure.manifests.commands.inspect_commands import ls_command, status_command
from impure.manifests.commands.query_command import query_command
from impure.manifests.commands.transfer_commands import merge_command, pull_command, push_command
from impure.pipeline.commands.attacks_command import attacks_command
from impure.pipeline.commands.card_command import card_command
from impure.pipeline.commands.generate_command import generate_command
from impure.pipeline.commands.preview_command import preview_command
from impure.pipeline.commands.rebuild_command import rebuild_command
from impure.pipeline.commands.sample_command import sample_command
from impure.pipeline.commands.verify_command import verify_command


@click.group("impure-data", cls=Group, context_settings=HELP)
@click.version_option(package_name="impure")
def data() -> None:
    """Make and keep collections of adversarial image pairs.

    \b
    The whole way, on built-in images that need no download:
      impure-data generate --attack pgd --eps 16
      impure-train --shards ./impure-data/builtin --epochs 1
    On ImageNet:
      impure-data generate --images /data/imagenet --target resnet101 --attack all --eps 16
    """


MANIFEST_COMMANDS = (status_command, ls_command, query_command, merge_command, pull_command, push_command)
PIPELINE_COMMANDS = (
    attacks_command,
    sample_command,
    generate_command,
    verify_command,
    card_command,
    rebuild_command,
    preview_command,
)
for command in (*MANIFEST_COMMANDS, *PIPELINE_COMMANDS):
    data.add_command(command)
