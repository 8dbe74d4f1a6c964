"""Brings weights that are stored under other names, or with other buffers, to what a classifier expects."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

WRAPPERS = ("state_dict", "model")
"""Keys under which training programs store the weights, beside other things."""

PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""

_COUNTER = ".num_batches_tracked"
_AUXILIARY = ("AuxLogits", "aux1", "aux2")  # heads of torchvision's Inception and GoogLeNet

#: Names that torchvision publishes, and what its networks call the same today (DenseNet, ViT).
_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)


def unwrap(content: Any) -> tuple[Any, list[str]]:
    """Take weights out of what a training program stored around them.

    Returns:
        The weights, and what was taken off: wrappers and prefixes.
    """
    removed = []
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            removed.append(wrapper)
    while isinstance(content, Mapping) and (prefix := _common_prefix(content)):
        content = {str(name).removeprefix(prefix): value for name, value in content.items()}
        removed.append(prefix)
    return content, removed


def _common_prefix(weights: Mapping[Any, Any]) -> str:
    """The prefix that all names have; empty where there is none."""
    return next((prefix for prefix in PREFIXES if weights and _all_begin(weights, prefix)), "")


def _all_begin(weights: Mapping[Any, Any], prefix: str) -> bool:
    return all(str(name).startswith(prefix) for name in weights)


def fit_names(network: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give weights the network's names, and its counters of batches where they have none.

    Auxiliary heads, which only training uses, are taken off the network where the weights have none.
    """
    fitted = {_renamed(name): tensor for name, tensor in weights.items()}
    _drop_auxiliary_heads(network, fitted)
    own = network.state_dict()
    return fitted | {name: own[name] for name in own.keys() - fitted.keys() if name.endswith(_COUNTER)}


def _renamed(name: str) -> str:
    for pattern, today in _RENAMED:
        name = pattern.sub(today, name)
    return name


def _drop_auxiliary_heads(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    heads = [head for head in _AUXILIARY if getattr(network, head, None) is not None]
    if heads and not any(name.startswith(tuple(f"{head}." for head in heads)) for name in weights):
        for head in heads:
            setattr(network, head, None)
        network.aux_logits = False  # type: ignore[assignment]
