"""Strict loading of weights: every tensor of the network, no others, all of them finite, and no code run.

Classifiers, the purifier's checkpoints and files of other projects are all read here.
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.commands.console import say
from impure.pipeline.targets.weight_names import fit_names, unwrap

AllowedGlobal = Callable[..., Any] | tuple[Callable[..., Any], str]
"""A class that a file of `torch.save` may hold beside tensors, if need be with the name it has there."""

_LISTED = 4  # names in an error message

_LFS_POINTER = b"version https://git-lfs"
_ADVICE = "; save the network's state_dict() with torch.save of today, or as .safetensors"


class TensorHeader(NamedTuple):
    """What a safetensors file says of a tensor before its values: its shape and type, such as "F32"."""

    shape: tuple[int, ...]
    dtype: str


def load_weights_file(network: nn.Module, path: Path) -> None:
    """Fill a classifier strictly from a safetensors or PyTorch file; float16 becomes float32.

    The usual wrappers and prefixes are taken off, and standard error says so (see `unwrap` and `fit_names`).

    Raises:
        InputError: The file cannot be read, or its tensors are not the network's (see `load_strictly`).
    """
    content, removed = unwrap(read_saved(path))
    if removed:
        say(f"{path}: {', '.join(map(repr, removed))} taken off around the weights")
    load_published(network, plain_tensors(content, str(path)), str(path))


def load_published(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Fill a classifier strictly from weights that may have the names of an earlier version.

    Raises:
        InputError: They are not the network's (see `load_strictly`).
    """
    load_strictly(network, fit_names(network, weights), where)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a plain state dict, tensors by name, to the CPU.

    Raises:
        InputError: The file cannot be read (see `read_saved`), or holds anything but tensors.
    """
    return plain_tensors(read_saved(path), str(path))


def read_saved(
    path: Path, kind: str = "weights file", advice: str = "", allowed: Sequence[AllowedGlobal] = ()
) -> Any:
    """Read what a `.safetensors` file or one of `torch.save` holds, to the CPU; pickled code is never run.

    Args:
        path: The file; its suffix tells the format.
        kind: What it should be, for error messages.
        advice: What to do about a file that cannot be read, to end the message with.
        allowed: Classes that the file may hold beside tensors and plain values.

    Raises:
        InputError: The file is missing, damaged, a Git LFS pointer, or would need code to be run.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise InputError(
                    f"{path}: a Git LFS pointer, not the {kind} itself; fetch it with `git lfs pull`"
                )
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats: our message says it where it matters
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such {kind}") from error
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - torch raises whatever a damaged archive leads it to
        raise InputError(f"{path}: not a readable {kind} ({_reason(error)}){advice or _ADVICE}") from error


def _reason(error: Exception) -> str:
    """Why a file cannot be read, without the paragraph that torch has about it."""
    if refused := re.search(r"GLOBAL \S+|Unsupported operand \d+", str(error)):
        return refused[0]
    if legacy := re.search(r"legacy \.?tar|TorchScript archives?", str(error)):
        return f"of the kind {legacy[0].removesuffix('s')}"
    return first_line(error)


def plain_tensors(content: object, where: str) -> dict[str, Tensor]:
    """Take content for weights: tensors by name, each with its values in memory.

    Raises:
        InputError: It is something else, or empty.
    """
    if not isinstance(content, Mapping) or not content or not all(map(_in_memory, content.values())):
        raise InputError(f"{where}: holds no weights, or more than plain tensors; expected tensors by name")
    return {str(name): tensor for name, tensor in content.items()}


def _in_memory(value: object) -> bool:
    """Whether it is a plain tensor with its values: not sparse, quantised or on the device "meta"."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def read_header(path: Path) -> dict[str, TensorHeader]:
    """Read names, shapes and types of a safetensors file's tensors, and none of their values.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            return {
                name: TensorHeader(tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()
            }
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({first_line(error)})") from error


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights into a network: all of them and no others, converted to the network's types.

    Args:
        network: What to fill; untouched where the weights are refused.
        weights: Tensors by the network's names.
        where: Where they are from, for error messages.

    Raises:
        InputError: Names or shapes differ (see `check_shapes`), or a value is not finite.
    """
    check_shapes(shapes_of(network.state_dict()), shapes_of(weights), where)
    check_finite(weights, where)
    # Not load_state_dict: networks of torchvision have hooks there that ask for the file's version.
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            tensor.copy_(weights[name])


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor."""
    return {name: tuple(tensor.shape) for name, tensor in weights.items()}


def check_shapes(
    expected: Mapping[str, Sequence[int]], actual: Mapping[str, Sequence[int]], where: str
) -> None:
    """Make sure that names and shapes are the expected ones.

    Raises:
        InputError: They are not; the message names the first ones.
    """
    differences = {
        "missing": sorted(expected.keys() - actual.keys()),
        "unexpected": sorted(actual.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(actual[name])}, not {tuple(expected[name])}"
            for name in sorted(expected.keys() & actual.keys())
            if tuple(actual[name]) != tuple(expected[name])
        ],
    }
    listed = "; ".join(
        f"{len(names)} {kind}: {', '.join(names[:_LISTED])}" for kind, names in differences.items() if names
    )
    if listed:
        raise InputError(f"{where}: these weights are not of this architecture ({listed})")


def check_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Make sure that no weight is NaN or infinite.

    Raises:
        InputError: One is; the message names the first.
    """
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise InputError(
            f"{where}: refused, {len(broken)} tensors hold NaN or infinity, the first is {broken[0]}"
        )
