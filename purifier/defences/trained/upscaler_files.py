"""Reads super-resolution networks that others published: EDSR's files here, other kinds through spandrel."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.targets.weight_names import unwrap
from impure.pipeline.targets.weights import (
    check_finite,
    check_shapes,
    load_strictly,
    plain_tensors,
    read_saved,
    shapes_of,
)
from impure.purifier.defences.base.extras import needs_extra
from impure.purifier.defences.trained.edsr import EDSR, LEVELS, MEAN
from impure.purifier.riae.patches import reflect_pad

MOST_BLOCKS = 128  # the largest number in a tensor's name: networks are built by such numbers
_WRAPPERS = ("params_ema", "params")  # BasicSR stores its weights under these
_BLOCK = re.compile(r"body\.(\d+)\.body\.0\.weight")


class Upscaler(nn.Module):
    """A network of spandrel's that doubles images; pads them to the sizes that it takes."""

    def __init__(self, network: nn.Module, multiple: int) -> None:
        super().__init__()
        self.network = network
        self.multiple = multiple

    def forward(self, images: Tensor) -> Tensor:
        """Double the sides of RGB images in [0,1] (B, 3, H, W)."""
        height, width = images.shape[2:]
        doubled: Tensor = self.network(reflect_pad(images, self.multiple))
        return doubled[..., : 2 * height, : 2 * width]


def load_upscaler(path: Path) -> nn.Module:
    """A published network that doubles RGB images in [0,1], on the CPU, in eval mode.

    Args:
        path: `.safetensors`, or what `torch.save` made of weights: EDSR x2 of the authors' PyTorch program,
            or another x2 network that spandrel knows (RRDB, RCAN, SwinIR, …).

    Raises:
        InputError: The file cannot be read without running code, holds another network or values that are not
            finite, or spandrel is not installed.
    """
    weights = _read(path)
    is_edsr = "head.0.weight" in weights and "body.0.body.2.weight" in weights
    network = _edsr(weights, str(path)) if is_edsr else _other(weights, str(path))
    return network.eval().requires_grad_(False)


def _read(path: Path) -> dict[str, Tensor]:
    """Weights by name, without what training programs store around them; bounded in names and values."""
    content, _ = unwrap(read_saved(path))
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    weights = plain_tensors(content, str(path))
    numbers = (int(number) for name in weights for number in re.findall(r"(?<=\.)\d{1,9}(?=\.|$)", name))
    if any(len(name) > 200 for name in weights) or max(numbers, default=0) > MOST_BLOCKS:
        raise InputError(f"{path}: refused, its names count more than {MOST_BLOCKS} blocks")
    check_finite(weights, str(path))
    return weights


def _edsr(weights: Mapping[str, Tensor], where: str) -> EDSR:
    """EDSR with the authors' weights, whose shifts by the mean must be what ours computes."""
    constants = _shifts()
    for name in constants.keys() & weights.keys():
        stored, value = weights[name], constants[name]
        if stored.shape != value.shape or not torch.allclose(stored.float(), value, rtol=0, atol=0.1):
            raise InputError(f"{where}: {name} is not EDSR's shift of 8-bit levels by DIV2K's mean")
    parameters = {name: tensor for name, tensor in weights.items() if name not in constants}
    blocks = sum(_BLOCK.fullmatch(name) is not None for name in weights)
    width = weights["head.0.weight"].numel() // 27
    with torch.device("meta"):  # nothing is built before the shapes are compared
        expected = shapes_of(EDSR(blocks=blocks, width=width).state_dict())
    check_shapes(expected, shapes_of(parameters), where)
    network = EDSR(blocks=blocks, width=width)
    load_strictly(network, parameters, where)
    return network


def _shifts() -> dict[str, Tensor]:
    """The convolutions that take the mean off and put it back, as the authors' files hold them."""
    mean = LEVELS * torch.tensor(MEAN)
    unit = torch.eye(3).view(3, 3, 1, 1)
    return {
        "sub_mean.weight": unit,
        "sub_mean.bias": -mean,
        "add_mean.weight": unit,
        "add_mean.bias": mean,
    }


def _other(weights: Mapping[str, Tensor], where: str) -> Upscaler:
    """Whatever spandrel takes the weights for, if it doubles RGB images."""
    with needs_extra(f"{where} holds no EDSR; reading it", "defences"):
        from spandrel import ImageModelDescriptor, ModelLoader
    try:
        with torch.device("meta"), warnings.catch_warnings():  # names and shapes, before memory is taken
            warnings.simplefilter("ignore")
            ModelLoader(device="meta").load_from_state_dict(dict(weights))
        model = ModelLoader().load_from_state_dict(dict(weights))
    except Exception as error:  # noqa: BLE001 - each of its architectures raises other errors
        reason = f"{type(error).__name__} {first_line(error)}".rstrip(": ")
        raise InputError(f"{where}: neither EDSR x2 nor a network that spandrel reads ({reason})") from error
    needs = model.size_requirements
    if not isinstance(model, ImageModelDescriptor) or needs.square:
        raise InputError(f"{where}: a {model.architecture.name}, which takes no RGB images of any size")
    if (model.scale, model.input_channels, model.output_channels) != (2, 3, 3):
        raise InputError(f"{where}: a {model.architecture.name} x{model.scale}; wanted is x2 on RGB images")
    return Upscaler(model.model, max(needs.minimum, needs.multiple_of))
