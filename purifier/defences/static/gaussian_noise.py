"""Gaussian noise: the control that tells what a perturbation's size alone does."""

from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.random_defence import RandomDefence


class GaussianNoise(RandomDefence):
    """Adds Gaussian noise as large as the attack, and clips to [0, 1].

    A perturbation of ±eps/255 with random signs has the L2 norm eps/255 · √n over n = 3·H·W values. Gaussian
    noise of σ = eps/255 has the same mean square norm, σ²·n. A purifier has to do better than this: random
    changes of the attack's size undo some attacks by themselves.

    Uncertain: attacks seldom use their whole budget in every value, so that their L2 is a little smaller;
    clipping shortens both.
    """

    source = "control, of no paper"
    gradient = "exact"

    def __init__(self, *, eps: float = 16.0) -> None:
        """Set the size.

        Args:
            eps: L∞ bound of the attack whose L2 the noise has, in units of 1/255.

        Raises:
            InputError: `eps` is not between 0 and 255.
        """
        super().__init__()
        if not 0 <= eps <= 255:
            raise InputError(f"defence 'gaussian-noise': eps is {eps}; it must be between 0 and 255")
        self.eps = eps

    def defend(self, images: Tensor) -> Tensor:
        """Return noisy images."""
        noise = self.normal(self.rows(images), *images.shape[1:]).to(images)
        return (images + self.eps / 255 * noise).clamp(0, 1)
