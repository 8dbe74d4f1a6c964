"""The L1 distance of images, and of their perceptual features (paper, section 3.2.3)."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from impure.purifier.losses.feature_network import FeatureNetwork


def l1(output: Tensor, target: Tensor, per_position: bool = False) -> Tensor:
    """Mean absolute difference of features, a scalar, in float32 at least.

    Args:
        output: What the network made: (B, C, H, W), (B, C), or tokens (B, N, C).
        target: What it should have made, in the same shape.
        per_position: Sum over the C channels and take the mean of the rest, as Eqs. 12 and 13 are written.
    """
    precise = torch.promote_types(output.dtype, torch.float32)
    mean = (output.to(precise) - target.to(precise)).abs().mean()
    return mean * output.shape[2 if output.dim() == 3 else 1] if per_position else mean


def feature_pairs(
    features: Callable[[Tensor], Sequence[Tensor]], images: Tensor, clean: Tensor, clean_row: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """A network's features of images, and of the clean images that belong to them, node by node.

    Those of a clean image that several images share are computed once, and take no gradient.

    Args:
        features: The network: an output for each of its nodes.
        images: RGB in [0,1] (B, 3, H, W), to which the gradient goes.
        clean: Distinct clean images, RGB in [0,1] (U, 3, H, W).
        clean_row: (B,) int64: the row of `clean` that belongs to each image.
    """
    with torch.no_grad():
        clean_features = [output.index_select(0, clean_row) for output in features(clean)]
    return list(zip(features(images), clean_features, strict=True))


class PerceptualLoss:
    """Sum of lambda_i times the L1 distance of the features of two images (Eqs. 13, 14)."""

    def __init__(
        self,
        network: nn.Module,
        lambdas: Mapping[str, float],
        *,
        per_position: bool = False,
        bf16: bool = False,
    ) -> None:
        """Take over a network: it is changed in place (see `FeatureNetwork`), so use it for nothing else.

        Args:
            network: Takes RGB in [0,1] (B, 3, H, W), and normalises by itself.
            lambdas: Names of its submodules (or how they end), each with its weight.
            per_position: See `l1`.
            bf16: Compute the features in bfloat16; their distance is taken in float32.

        Raises:
            InputError: The network has no submodule of such a name.
        """
        self.features = FeatureNetwork(network, lambdas, bf16=bf16)
        self.lambdas = dict(lambdas)
        self.per_position = per_position

    def __call__(self, images: Tensor, clean: Tensor, clean_row: Tensor) -> Tensor:
        """Loss of images against their clean images; a scalar.

        Args:
            images: RGB in [0,1] (B, 3, H, W).
            clean: Distinct clean images, RGB in [0,1] (U, 3, H, W).
            clean_row: (B,) int64: the row of `clean` that belongs to each image.
        """
        pairs = feature_pairs(self._features_in_order, images, clean, clean_row)
        terms = [
            weight * l1(output, target, self.per_position)
            for weight, (output, target) in zip(self.lambdas.values(), pairs, strict=True)
        ]
        return torch.stack(terms).sum()

    def _features_in_order(self, images: Tensor) -> list[Tensor]:
        """The features of each node, in the order of `lambdas`."""
        features = self.features(images)
        return [features[node] for node in self.lambdas]
