"""The frozen network whose features the perceptual loss compares, without needless work."""

import difflib
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from impure.manifests.base.errors import InputError


class _AllNodesSeen(Exception):
    """Every node has been called as often as in a whole pass; what lies behind them need not be computed."""


class FeatureNetwork(nn.Module):
    """The outputs of some submodules of a network for an image: the F_i of Eq. 13.

    Four savings leave the features what they are: the weights take no gradient, convolutions work with
    channels last in memory, each BatchNorm is folded into the convolution before it in a Sequential, and
    nothing is computed behind the last node (after the first pass, which goes on to the end and so learns
    which one is the last).
    """

    def __init__(self, network: nn.Module, nodes: Iterable[str], *, bf16: bool = False) -> None:
        """Take over a network: it is changed in place, so use it for nothing else.

        Args:
            network: Takes RGB in [0,1] (B, 3, H, W), and normalises by itself.
            nodes: Names of its submodules (or how they end). A module that is called several times counts
                with its last call.
            bf16: Compute in bfloat16 with weights rounded once, not on each pass as a surrounding autocast
                would: the same bits. Otherwise the surroundings decide.

        Raises:
            InputError: The network has no submodule of such a name, or several.
        """
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.nodes = tuple(nodes)
        self.bf16 = bf16
        self._outputs: dict[str, Tensor] = {}
        self._calls = 0  # of nodes in this pass
        self._all_calls = 0  # of nodes in a whole pass; 0: not yet known
        names = {node: find_node(network, node) for node in self.nodes}
        _fold(network, keep=set(names.values()))
        for node, name in names.items():
            network.get_submodule(name).register_forward_hook(partial(self._keep_output, node))
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if bf16:
            _round(network)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Each node's output for RGB images in [0,1] (B, 3, H, W).

        Raises:
            InputError: A node's output is no tensor, or it is never called.
        """
        self._outputs = {}
        self._calls = 0
        with torch.autocast(images.device.type, torch.bfloat16) if self.bf16 else nullcontext():
            with suppress(_AllNodesSeen):  # raised at the last node: what follows it is not wanted
                self.network(images.contiguous(memory_format=torch.channels_last))
        self._all_calls = self._calls
        outputs = self._outputs
        self._outputs = {}  # the caller's alone: no features stay in memory
        if unused := [node for node in self.nodes if node not in outputs]:
            raise InputError(
                f"feature network: node {unused[0]!r} plays no part in evaluation; choose another"
            )
        return outputs

    def _keep_output(self, node: str, module: nn.Module, inputs: object, output: object) -> None:
        """A forward hook that keeps a copy of a node's output: what follows may overwrite the original."""
        if not isinstance(output, Tensor):
            raise InputError(f"feature network: node {node!r} puts out a {type(output).__name__}, no tensor")
        self._outputs[node] = output.clone()
        self._calls += 1
        if self._calls == self._all_calls:
            raise _AllNodesSeen


def find_node(network: nn.Module, node: str) -> str:
    """The submodule of that name, or the one whose name ends in it: targets wrap the network of the library.

    Raises:
        InputError: There is none, or more than one; the message lists names like it.
    """
    names: list[str] = [name for name, _ in network.named_modules() if name]
    matches = [name for name in names if f".{name}".endswith(f".{node}")]
    exact = [name for name in matches if name == node] or matches
    if not node or len(exact) != 1:
        close = matches or difflib.get_close_matches(node, names, n=5, cutoff=0.4) or names[-5:]
        many = "several nodes" if matches else "no node"
        raise InputError(f"feature network: {many} {node!r}; close names are {', '.join(close[:5])}")
    return exact[0]


def _fold(network: nn.Module, keep: set[str]) -> None:
    """Fold BatchNorms into the convolutions before them, in place; leave the convolutions in `keep` alone.

    Only neighbours in a plain Sequential are sure to follow each other. The BatchNorm's place is kept by an
    identity, whose output is still the BatchNorm's.
    """
    uses: dict[nn.Module, int] = {}
    for _, module in network.named_modules(remove_duplicate=False):
        uses[module] = uses.get(module, 0) + 1
    for path, parent in list(network.named_modules()):
        if not isinstance(parent, nn.Sequential) or type(parent).forward is not nn.Sequential.forward:
            continue
        for (name, conv), (next_name, norm) in pairwise(list(parent.named_children())):
            full_name = f"{path}.{name}".lstrip(".")
            if uses[conv] == 1 and full_name not in keep and (folded := _folded(conv, norm)) is not None:
                setattr(parent, name, folded)
                setattr(parent, next_name, nn.Identity())


def _folded(conv: nn.Module, norm: nn.Module) -> nn.Conv2d | None:
    """A convolution that does the work of both, if the second only scales and shifts the first's channels.

    Subclasses may do more (timm's BatchNorms hold an activation).
    """
    if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
        return fuse_conv_bn_eval(conv, norm)
    return None


def _round(network: nn.Module) -> None:
    """Round the weights that autocast would round; subclasses may not use theirs as they are."""
    for module in network.modules():
        if type(module) in (nn.Conv2d, nn.Linear):
            module.to(torch.bfloat16)
