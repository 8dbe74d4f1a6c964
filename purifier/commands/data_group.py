"""`impure-data` as a whole: the pipeline's commands, and the one that needs a purifier."""

from impure.pipeline.commands.data_command import data
from impure.purifier.commands.sanitise_command import sanitise_command

__all__ = ["data"]

data.add_command(sanitise_command)
