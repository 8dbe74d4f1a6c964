"""Other ways to compute RIAE's training pass, to be measured beside the present one: `train.py --variant`."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from impure.purifier.riae.model import RIAE

#: Who computes attention; PyTorch chooses otherwise.
ATTENTION = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
#: What is compiled, and PyTorch's mode for it.
COMPILED: dict[str, Callable[[RIAE], nn.Module]] = {
    "compile": lambda model: torch.compile(model, dynamic=False),
    "autotune": lambda model: torch.compile(model, dynamic=False, mode="max-autotune-no-cudagraphs"),
    "graphs": lambda model: torch.compile(model, dynamic=False, mode="reduce-overhead"),
    "blocks": lambda model: _by_blocks(model),
    "blocks-autotune": lambda model: _by_blocks(model, mode="max-autotune-no-cudagraphs"),
}
NAMES = (*ATTENTION, *COMPILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A network, and the surroundings in which to call it."""

    name: str
    network: nn.Module
    surroundings: Callable[[], AbstractContextManager[object]]


def build(model: RIAE, name: str) -> Variant:
    """A copy of a model that computes otherwise; `blocks+flash` is both together.

    Raises:
        ValueError: There is no such variant.
    """
    parts = name.split("+")
    if unknown := [part for part in parts if part not in NAMES]:
        raise ValueError(f"no variant {unknown[0]!r}; join some of {', '.join(NAMES)} with +")
    model = deepcopy(model)
    network: nn.Module = model
    for part in parts:
        network = COMPILED[part](model) if part in COMPILED else network
    backends = [ATTENTION[part] for part in parts if part in ATTENTION]
    surroundings = partial(sdpa_kernel, backends) if backends else nullcontext
    return Variant(name=name, network=network, surroundings=surroundings)


def _by_blocks(model: RIAE, **options: str) -> nn.Module:
    """Compile each kind of block once, and leave what is between them as it is."""
    first, *decoder = model.decoder_blocks
    for block in (*model.blocks, *decoder):
        block.compile(dynamic=False, **options)
    first.attend = torch.compile(first.attend, dynamic=False, **options)  # type: ignore[arg-type]
    return model
