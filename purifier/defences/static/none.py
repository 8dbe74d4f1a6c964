"""No defence: the row that all others are compared with."""

from torch import Tensor

from impure.purifier.defences.base.defence import Defence


class NoDefence(Defence):
    """Hands images on as they are."""

    source = "no defence"
    gradient = "exact"

    def defend(self, images: Tensor) -> Tensor:
        """Return the same images."""
        return images
