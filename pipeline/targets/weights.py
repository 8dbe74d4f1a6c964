"""Weights out of a file into a network: all of them, and no others."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from impure.manifests.base.errors import InputError, first_line


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill a network strictly from a safetensors or PyTorch file; float16 becomes float32.

    Raises:
        InputError: The file cannot be read, or its tensors are not the network's.
    """
    fill(network, _read_state(path), str(path))


def _read_state(path: Path) -> Mapping[str, Tensor]:
    """Read tensors by name; pickled code is never run."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such weights file") from error
    except Exception as error:  # noqa: BLE001 - torch raises whatever a damaged archive leads it to
        raise InputError(f"{path}: not a readable weights file ({first_line(error)})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a plain state dict (tensors by name)")
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load a state dict strictly.

    Raises:
        InputError: Names or shapes differ, or a value is not finite.
    """
    own = network.state_dict()
    if wrong := sorted(set(own) ^ set(state)):
        side = "lacks" if wrong[0] in own else "has an unexpected"
        raise InputError(
            f"{where}: does not fit the network: it {side} {wrong[0]!r} ({len(wrong)} names differ)"
        )
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            found, wanted = tuple(tensor.shape), tuple(own[name].shape)
            raise InputError(
                f"{where}: does not fit the network: {name!r} is {found}, the network's is {wanted}"
            )
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{where}: {name!r} holds values that are not finite")
    network.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()})
