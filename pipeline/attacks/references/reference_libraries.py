"""The libraries whose attacks can take the place of ours (`--implementation`)."""

from impure.pipeline.attacks.references.cleverhans_attacks import CLEVERHANS
from impure.pipeline.attacks.references.library_attack import Reference
from impure.pipeline.attacks.references.torchattacks_attacks import TORCHATTACKS

REFERENCES: dict[str, dict[str, Reference]] = {"torchattacks": TORCHATTACKS, "cleverhans": CLEVERHANS}
"""Library → attack → how to run it."""
