"""The loss: pixels in normalised space, and perceptual features (paper, section 3.2.3)."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from impure.manifests.errors import InputError
from impure.purifier.rcm import Combination


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A perceptual loss: which network, which of its layers, how they are weighed."""

    network: str = ""  # "" for none
    lambdas: Mapping[str, float] = field(default_factory=dict)  # submodule -> weight (lambda_i of Eq. 14)
    combination: Combination = "code"
    per_position: bool = False  # sum over channels, mean over positions (Eqs. 12, 13); else mean over all


RECIPES: dict[str, Recipe] = {
    "code": Recipe(
        network="torchvision:vgg19_bn", lambdas={"features.38": 30, "features.51": 10, "classifier.1": 10}
    ),
    "paper": Recipe(
        network="torchvision:vgg19",
        lambdas={"features.26": 30, "features.35": 10, "classifier.6": 5},
        combination="paper",
        per_position=True,
    ),
    "pixel": Recipe(),
}


def l1(output: Tensor, wanted: Tensor, per_position: bool = False) -> Tensor:
    """Mean absolute difference of (B, C, ...) tensors, a scalar.

    Args:
        output: What the network made.
        wanted: What it should have made.
        per_position: Sum over the channels and take the mean of the rest, as Eqs. 12 and 13 are written.
    """
    mean = (output - wanted).abs().mean()
    return mean * output.shape[1] if per_position else mean


class PerceptualLoss:
    """Sum of lambda_i times the L1 distance of the features of two images (Eqs. 13, 14)."""

    def __init__(
        self, network: nn.Module, lambdas: Mapping[str, float], *, per_position: bool = False
    ) -> None:
        """Take over a network: it is frozen, put in eval mode, and its in-place layers write elsewhere.

        Args:
            network: Takes RGB in [0,1] (B, 3, H, W), and normalises by itself.
            lambdas: Names of its submodules (or how they end), each with its weight.
            per_position: See `l1`.

        Raises:
            InputError: The network has no submodule of such a name.
        """
        self.network = network.requires_grad_(False).eval()
        self.lambdas = dict(lambdas)
        self.per_position = per_position
        self._features: dict[str, Tensor] = {}
        modules = dict(network.named_modules())
        for module in modules.values():
            if hasattr(module, "inplace"):
                module.inplace = False  # would overwrite the features noted just before it
        for node in lambdas:
            _find(modules, node).register_forward_hook(self._note(node))

    def __call__(self, images: Tensor, clean: Tensor) -> Tensor:
        """Loss of `images` against `clean`, both RGB in [0,1] (B, 3, H, W); a scalar."""
        with torch.no_grad():
            wanted = self.features(clean)
        made = self.features(images)
        terms = [
            weight * l1(made[node], wanted[node], self.per_position) for node, weight in self.lambdas.items()
        ]
        return torch.stack(terms).sum()

    def features(self, images: Tensor) -> dict[str, Tensor]:
        """What each node puts out for RGB images in [0,1] (B, 3, H, W)."""
        self._features = {}
        self.network(images)
        found, self._features = self._features, {}
        return found

    def _note(self, node: str) -> Callable[[nn.Module, object, object], None]:
        """A forward hook that keeps a node's output."""

        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not isinstance(output, Tensor):
                raise InputError(
                    f"feature network: node {node!r} puts out a {type(output).__name__}, no tensor"
                )
            self._features[node] = output

        return hook


def _find(modules: Mapping[str, nn.Module], node: str) -> nn.Module:
    """The submodule of that name, or the one whose name ends in it: targets wrap the network of the library.

    Raises:
        InputError: There is none, or more than one; the message lists names like it.
    """
    names = [name for name in modules if name]
    found = [name for name in names if f".{name}".endswith(f".{node}")]
    exact = [name for name in found if name == node] or found
    if not node or len(exact) != 1:
        close = found or difflib.get_close_matches(node, names, n=5, cutoff=0.4) or names[-5:]
        many = "several nodes" if found else "no node"
        raise InputError(f"feature network: {many} {node!r}; close names are {', '.join(close[:5])}")
    return modules[exact[0]]
