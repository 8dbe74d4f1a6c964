"""Collections of adversarial image pairs, and the purifiers trained and evaluated on them.

What most programs need, without a search through the packages:

    import impure

    purifier = impure.load_purifier("RUN/best")  # or a Hugging Face name: "owner/name"
    defended = impure.DefendedModel(purifier, classifier)
    adversarial = impure.attack(defended, images, labels, "pgd", eps=16)
    robust = (defended(adversarial).argmax(1) == labels).float().mean()

Names are imported when they are first used, so that `import impure` itself costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from impure.manifests.base.errors import InputError
    from impure.manifests.sharing.open_collection import open_collection
    from impure.pipeline.attacks.attack_images import attack
    from impure.pipeline.targets.load import load_target
    from impure.pipeline.targets.target import Target
    from impure.purifier.data.dataset import PairDataset
    from impure.purifier.defences.defended_model import DefendedModel
    from impure.purifier.riae.model import RIAE, load_purifier

__all__ = [
    "RIAE",
    "DefendedModel",
    "InputError",
    "PairDataset",
    "Target",
    "attack",
    "load_purifier",
    "load_target",
    "open_collection",
]

#: The module of each public name; the same as the imports for type checkers above.
_MODULES = {
    "DefendedModel": "impure.purifier.defences.defended_model",
    "InputError": "impure.manifests.base.errors",
    "PairDataset": "impure.purifier.data.dataset",
    "RIAE": "impure.purifier.riae.model",
    "Target": "impure.pipeline.targets.target",
    "attack": "impure.pipeline.attacks.attack_images",
    "load_purifier": "impure.purifier.riae.model",
    "load_target": "impure.pipeline.targets.load",
    "open_collection": "impure.manifests.sharing.open_collection",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'impure' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})
