"""How a training run goes about its work; nothing here changes what it learns."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """How a run goes about it; nothing here changes what it learns."""

    progress: bool = False  # show a bar with rate and time left on standard error
    workers: int = 0  # processes that decode images; 0 for this one
    log_steps: int = 20  # updates between rows of the log
    checkpoint_seconds: float = 600.0  # save at least this often; every epoch's end is saved anyway
    validate_epochs: int = 1  # epochs between validations
    tensorboard: bool = False
