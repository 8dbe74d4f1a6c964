"""Runtime options of a training run: what changes nothing of what it learns."""

from dataclasses import dataclass
from typing import Literal

CacheKind = Literal["none", "ram", "device"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """How a run is carried out; nothing here changes what it learns."""

    progress: bool = False  # show a bar with rate and time left on standard error
    workers: int = 0  # processes that decode images; 0 for this one
    cache: CacheKind = "none"  # where decoded pairs are kept from one epoch to the next
    log_steps: int = 20  # updates between rows of the log
    checkpoint_seconds: float = 600.0  # save at least this often; every epoch's end is saved anyway
    validate_epochs: int = 1  # epochs between validations
    validate_images: int = 200  # images of each target and attack in a validation
    tensorboard: bool = False  # also write event files for TensorBoard
