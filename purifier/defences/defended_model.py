"""A purifier and a classifier as one network, to be attacked end to end."""

from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.pipeline.tensors import check_images
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.riae.model import RIAE

DefendedCombine = Literal["average", "vote"]


class DefendedModel(nn.Module):
    """[0,1] RGB (B, 3, H, W) in, logits (B, classes) out: an ordinary module, for any library of attacks.

    With `average` it is differentiable wherever purifier and target are. Both stay in eval mode whatever mode
    the attack asks for, and are given images in the type of their weights. Weights are left as they are: with
    `requires_grad_(False)` a backward pass spends no time on them.
    """

    def __init__(
        self,
        purifier: nn.Module,
        target: nn.Module,
        *,
        samples: int = 1,
        combine: DefendedCombine = "average",
        seed: int | None = None,
    ) -> None:
        """Put both in eval mode.

        Args:
            purifier: A RIAE, a defence, or any module from [0,1] images to the same.
            target: Takes [0,1] images, and normalises by itself.
            samples: How often an image is purified.
            combine: `average`: the target classifies the mean of the purified images. `vote`: it classifies
                each, and the scores are the votes for each class, plus half its mean probability, which
                breaks ties; they have no gradient.
            seed: None: new noise on every call, from torch's default generator on the CPU, as attacks by
                expectation over transformation want it. A number: always the same noise, in every row of a
                batch, so that the model is a function of each image by itself.

        Raises:
            InputError: `samples` is below 1, `combine` is unknown, the noise of a module that is neither
                RIAE nor defence is to be fixed, or samples that lie in different places have no mean.
        """
        super().__init__()
        if samples < 1:
            raise InputError(f"defended model: samples is {samples}; it must be at least 1")
        if combine not in get_args(DefendedCombine):
            names = ", ".join(get_args(DefendedCombine))
            raise InputError(f"defended model: no way to combine {combine!r}; choose from {names}")
        self.purifier = RIAEDefence(purifier) if isinstance(purifier, RIAE) else purifier
        if seed is not None and not isinstance(self.purifier, Defence):
            name = type(purifier).__name__
            raise InputError(
                f"defended model: {name} is no Defence whose noise a seed could fix; leave it out"
            )
        if samples > 1 and combine == "average" and not getattr(self.purifier, "can_average", True):
            name = type(purifier).__name__
            raise InputError(f"defended model: {name}'s samples lie in different places; combine by vote")
        self.target = target
        self.samples = samples
        self.combine = combine
        self.seed = seed
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Note the mode, but keep both parts in eval mode: batch statistics must not move under an attack."""
        super().train(mode)
        self.purifier.eval()
        self.target.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits, or votes (see `combine`).

        Raises:
            InputError: The images are no batch, or of an integer type.
        """
        check_images(images)
        self._reseed()
        if self.combine == "vote":
            return self._vote(images)
        purified = torch.stack([self._purify(images) for _ in range(self.samples)])
        return self._classify(purified.mean(0))

    def _reseed(self) -> None:
        """Begin the noise anew on every call, so that a fixed seed gives the same noise each time."""
        if not isinstance(self.purifier, Defence):
            return
        if self.seed is None:
            self.purifier.reseed(int(torch.randint(2**63 - 1, ())))
        else:
            self.purifier.reseed(self.seed, alike=True)

    @torch.no_grad()
    def _vote(self, images: Tensor) -> Tensor:
        """Votes for each class, and a fraction below one that breaks ties."""
        samples = [self._classify(self._purify(images)).softmax(1) for _ in range(self.samples)]
        probabilities = torch.stack(samples)  # samples, B, classes
        votes = nn.functional.one_hot(probabilities.argmax(2), probabilities.shape[2]).sum(0)
        return votes + probabilities.mean(0) / 2

    def _purify(self, images: Tensor) -> Tensor:
        """Images purified once."""
        purified: Tensor = self.purifier(_in_type_of(self.purifier, images))
        return purified

    def _classify(self, images: Tensor) -> Tensor:
        """The target's logits, or those of a defence that brings a classifier of its own."""
        images = _in_type_of(self.target, images)
        if isinstance(self.purifier, Defence):
            return self.purifier.classify(images, self.target)
        logits: Tensor = self.target(images)
        return logits


def _in_type_of(module: nn.Module, images: Tensor) -> Tensor:
    """Images in the floating-point type of a module's weights; as they are where it has none."""
    floats = (weight for weight in module.parameters() if weight.is_floating_point())
    return images.to(next(floats, images).dtype)
