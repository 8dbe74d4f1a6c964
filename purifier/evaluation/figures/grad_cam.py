"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): where a classifier looks, and how alike maps are."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from impure.manifests.base.errors import InputError
from impure.purifier.defences.base.extras import needs_extra


def last_spatial_layer(network: nn.Module, images: Tensor) -> str:
    """Name of the submodule that is the last to return feature maps (B, C, h, w) of more than one pixel.

    Args:
        network: A classifier.
        images: What it takes (B, 3, H, W).

    Raises:
        InputError: No submodule does.
    """
    names: list[str] = []

    def note(name: str, module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            names.append(name)

    hooks = [module.register_forward_hook(partial(note, name)) for name, module in _submodules(network)]
    try:
        with torch.no_grad():
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not names:
        raise InputError("the target has no layer with feature maps, as Grad-CAM needs; it may be a ViT")
    return names[-1]


def _submodules(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """All submodules by name, without the network itself."""
    return [(name, module) for name, module in network.named_modules() if name]


def layer_of(network: nn.Module, name: str) -> nn.Module:
    """A submodule by its name.

    Raises:
        InputError: There is none; the message names those at the top.
    """
    layers = dict(_submodules(network))
    if name not in layers:
        top = ", ".join(child for child, _ in network.named_children())
        raise InputError(f"--layer {name}: the target has no such layer; at the top it has {top}")
    return layers[name]


def maps_of(classifier: nn.Module, layer: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """Grad-CAM of some classes, in the layer's resolution (B, h, w).

    Args:
        classifier: RGB in [0,1] in, logits out.
        layer: One of its modules; returns feature maps (B, C, h, w).
        images: RGB in [0,1] (B, 3, H, W).
        classes: (B,), whose logits are explained.

    Raises:
        InputError: captum is not installed, or the layer returns something else.
    """
    with needs_extra("fig6", "figures"):
        from captum.attr import LayerGradCam

    with torch.enable_grad():
        maps = LayerGradCam(classifier, layer).attribute(
            images.detach().clone().requires_grad_(), target=classes, relu_attributions=True
        )
    if not isinstance(maps, Tensor) or maps.dim() != 4:
        raise InputError("--layer: it returns no feature maps (B, C, h, w); choose one that does")
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
