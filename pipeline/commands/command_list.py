"""Commands of `impure-data` that make collections, judge them again, or need what they were made from."""

from impure.pipeline.commands.generate_commands import generate_command, sample_command
from impure.pipeline.commands.maintenance_commands import (
    card_command,
    preview_command,
    rebuild_command,
    verify_command,
)

COMMANDS = (
    sample_command,
    generate_command,
    verify_command,
    card_command,
    rebuild_command,
    preview_command,
)
