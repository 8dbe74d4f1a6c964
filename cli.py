"""The entry points of the command line, each imported when it is used: no `--help` imports the others."""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impure.purifier.commands.data_group import data
    from impure.purifier.commands.evaluate.evaluate_group import evaluate
    from impure.purifier.commands.model_command import model
    from impure.purifier.commands.purify_command import purify
    from impure.purifier.commands.train_command import train

__all__ = ["data", "evaluate", "model", "purify", "train"]

#: The module of each entry point; the same as the imports for type checkers above.
_MODULES = {
    "data": "impure.purifier.commands.data_group",
    "evaluate": "impure.purifier.commands.evaluate.evaluate_group",
    "model": "impure.purifier.commands.model_command",
    "purify": "impure.purifier.commands.purify_command",
    "train": "impure.purifier.commands.train_command",
}

# Idle OpenMP threads sleep, not spin: beside another busy process spinning costs twenty times the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def __getattr__(name: str) -> Any:
    """Import an entry point when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'impure.cli' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
