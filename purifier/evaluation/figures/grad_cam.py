"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where a classifier looks, and how alike maps are."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.extras import needs_extra

LISTED = 6  # layers in a message


def spatial_layers(network: nn.Module, images: Tensor) -> list[str]:
    """Names of the submodules that return feature maps (B, C, h, w) of more than one place, as they end.

    Args:
        network: A classifier.
        images: What it takes (B, 3, H, W).
    """
    names: list[str] = []

    def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            names.append(name)

    hooks = [
        module.register_forward_hook(partial(note, name)) for name, module in network.named_modules() if name
    ]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return names


def choose_layer(network: nn.Module, images: Tensor, asked: str | None = None) -> str:
    """The name of the layer whose maps are taken: the last one that returns any, or the one asked for.

    Raises:
        InputError: There is none.
    """
    names = spatial_layers(network, images)
    if not names:
        raise InputError("the target has no layer that returns feature maps, as Grad-CAM needs")
    if asked is not None and asked not in names:
        last = ", ".join(list(dict.fromkeys(names))[-LISTED:])
        raise InputError(
            f"--layer {asked}: no layer of the target that returns feature maps; the last are {last}"
        )
    return asked or names[-1]


def maps_of(classifier: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM of some classes, in the layer's resolution (B, h, w).

    Args:
        classifier: RGB in [0,1] in, logits out.
        layer: One of its modules; returns feature maps (B, C, h, w).
        images: RGB in [0,1] (B, 3, H, W).
        classes: (B,), whose logits are explained.

    Raises:
        InputError: captum is not installed.
    """
    with needs_extra("fig6", "figures"):
        from captum.attr import LayerGradCam

    with torch.enable_grad():
        maps: Tensor = LayerGradCam(classifier, layer).attribute(
            images.detach().clone().requires_grad_(), target=classes, relu_attributions=True
        )
    return maps.detach()[:, 0]


def correlation(maps: Tensor, clean: Tensor) -> Tensor:
    """Pearson's correlation (B,) of maps (B, h, w) with others, each over its places; 0 where one is flat."""
    first = maps.flatten(1).double()
    second = clean.flatten(1).double()
    first = first - first.mean(1, keepdim=True)
    second = second - second.mean(1, keepdim=True)
    norms = first.norm(dim=1) * second.norm(dim=1)
    return torch.where(norms > 0, (first * second).sum(1) / norms, 0.0)


def enlarged(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps (B, h, w) in the images' size, each from 0 to 1; a flat one stays 0."""
    large = F.interpolate(maps[:, None], size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    return large / large.amax((1, 2), keepdim=True).clamp_min(torch.finfo(large.dtype).tiny)
