"""Loading targets by name: from torchvision, timm or a card, always with their trained weights."""

import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import timm
import torch
import torchvision
from huggingface_hub import hf_hub_download
from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from timm.data.config import resolve_model_data_config
from torch import nn

from impure.manifests.base.errors import InputError, first_line
from impure.pipeline.sources.imagenet import imagenet_wnids
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import TargetCard, read_card
from impure.pipeline.targets.target_names import TARGETS
from impure.pipeline.targets.weights import load_published, load_weights_file

TIMM_WEIGHTS = "model.safetensors"
"""The weights file of a timm repository on the Hub."""

# Set by torchvision only when it fetches the weights itself, and wrong without.
_TORCHVISION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "inception_v3": {"transform_input": True, "init_weights": False},
    "googlenet": {"transform_input": True, "init_weights": False},
}


def load_target(name: str, weights: Path | None = None, *, option: str = "--weights FILE") -> Target:
    """Build a target with its trained weights; never with random ones.

    Args:
        name: A key of `TARGETS`, `torchvision:NAME`, `timm:NAME`, or the path of a card (`*.json`).
        weights: Safetensors or PyTorch file to take instead of the published weights.
        option: What the user types to give that file, for error messages.

    Raises:
        InputError: The name is unknown, the weights cannot be had, or they do not fit the network.
    """
    origin = TARGETS.get(name, name)
    if origin.endswith(".json"):
        return _from_card(Path(origin), weights, option)
    library, _, architecture = origin.partition(":")
    if library not in _LIBRARIES or not architecture:
        names = ", ".join(TARGETS)
        raise InputError(
            f"unknown target {name!r}; choose {names}, torchvision:NAME, timm:NAME or a card.json"
        )
    try:
        return _LIBRARIES[library](name if name in TARGETS else _slug(architecture), architecture, weights)
    except _Unavailable as error:
        raise InputError(f"{error}; give the file with {option}") from error


def shard_name(name: str) -> str:
    """The name in shards of a target that `load_target` takes as `name`.

    Raises:
        InputError: It is a card that cannot be read.
    """
    if name in TARGETS:
        return name
    return read_card(Path(name)).name if name.endswith(".json") else _slug(name.partition(":")[2])


def _slug(architecture: str) -> str:
    """A library's model name as a path-safe name in shards."""
    return architecture.replace(".", "-")[:32].rstrip("-")


def _from_card(path: Path, weights: Path | None, option: str) -> Target:
    """Build what a card describes, with the weights beside it."""
    card = read_card(path)
    if weights is None and not card.weights:
        raise InputError(f"{path}: names no weights; give them with {option}")
    network = build_architecture(card.architecture, card.num_classes, card.input_size, str(path))
    load_weights_file(network, weights or path.parent / card.weights)
    target = Target(card, network)
    _check_size(target, path)
    return target


def _check_size(target: Target, path: Path) -> None:
    """Run the target once: some networks can be built for any size, but not be run.

    Raises:
        InputError: It takes no pictures of its card's size.
    """
    size = target.card.input_size
    try:
        with torch.no_grad():
            target(torch.zeros(1, 3, size, size))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"{path}: {target.card.architecture} takes no pictures of {size} px ({first_line(error)})"
        ) from error


def build_architecture(architecture: str, num_classes: int, input_size: int, where: str) -> nn.Module:
    """Build an untrained network, for the caller to load weights into.

    Raises:
        InputError: The architecture is unknown, or cannot take pictures of that size.
    """
    library, _, name = architecture.partition(":")
    if library == "timm" and timm.is_model(name):
        build = partial(timm.create_model, name, pretrained=False, **_timm_size(name, input_size))
    elif library == "torchvision" and name in torchvision.models.list_models(torchvision.models):
        size = {"image_size": input_size} if name.startswith("vit_") else {}
        build = partial(torchvision.models.get_model, name, **_TORCHVISION_ARGUMENTS.get(name, {}), **size)
    else:
        raise InputError(
            f"{where}: unknown architecture {architecture!r}; give torchvision:NAME or timm:NAME"
        )
    try:
        network: nn.Module = build(num_classes=num_classes)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(
            f"{where}: {architecture} cannot be built for {input_size} px ({first_line(error)})"
        ) from error
    return network


def _timm_size(name: str, input_size: int) -> dict[str, Any]:
    """What timm has to be told to build a network, whose parameters depend on it, for another size."""
    config = timm.models.get_pretrained_cfg(name)
    usual = config is None or not config.fixed_input_size or config.input_size[-1] == input_size
    return {} if usual else {"img_size": input_size}


def _torchvision(name: str, architecture: str, weights: Path | None) -> Target:
    """A torchvision classifier with its best published weights, or those given."""
    try:
        published = torchvision.models.get_model_weights(architecture).DEFAULT
        transforms = published.transforms()
        size = transforms.crop_size[0]
    except (ValueError, AttributeError) as error:
        raise InputError(f"torchvision has no classifier {architecture!r}") from error
    network = build_architecture(f"torchvision:{architecture}", len(published.meta["categories"]), size, name)
    if weights is not None:
        load_weights_file(network, weights)
    else:
        state = _fetch(
            lambda: published.get_state_dict(progress=False, check_hash=True, weights_only=True),
            name, published.url, f"{torch.hub.get_dir()}/checkpoints",
        )  # fmt: skip
        load_published(network, state, published.url)
    card = TargetCard(
        name=name, architecture=f"torchvision:{architecture}", num_classes=len(published.meta["categories"]),
        wnids=imagenet_wnids(), input_size=size, resize=transforms.resize_size[0],
        crop=size, interpolation=transforms.interpolation.value,
        antialias=transforms.antialias, mean=tuple(transforms.mean), std=tuple(transforms.std),
    )  # fmt: skip
    return Target(card, network)


def _timm(name: str, architecture: str, weights: Path | None) -> Target:
    """A timm ImageNet-1k classifier with its published weights, or those given."""
    if not timm.is_model(architecture):
        raise InputError(f"timm has no model {architecture!r}")
    network: nn.Module = timm.create_model(architecture, pretrained=False)
    classes = int(getattr(network, "num_classes", 0))
    if classes != 1000:
        raise InputError(
            f"timm:{architecture} has {classes} classes, not ImageNet's 1000: describe it in a card.json"
        )
    load_weights_file(network, weights or _timm_weights(name, architecture))
    return Target(timm_card(name, architecture, resolve_model_data_config(network)), network)


def _timm_weights(name: str, architecture: str) -> Path:
    """The file of a timm model's published weights.

    Raises:
        _Unavailable: They cannot be had, or do not lie on the Hub.
    """
    if repository := timm.get_pretrained_cfg_value(architecture, "hf_hub_id"):
        return Path(_fetch(
            lambda: _hub_file(repository),
            name, f"{ENDPOINT}/{repository}", HF_HUB_CACHE,
        ))  # fmt: skip
    if address := timm.get_pretrained_cfg_value(architecture, "url"):
        raise _Unavailable(f"the weights of timm:{architecture} are not on the Hub, but at {address}")
    raise _Unavailable(f"timm publishes no weights of {architecture}")


def timm_card(name: str, architecture: str, data_config: Mapping[str, Any]) -> TargetCard:
    """The card of a timm ImageNet-1k classifier.

    Args:
        name: The target's name.
        architecture: timm's name.
        data_config: What timm says of its preprocessing.

    Raises:
        InputError: It takes pictures that are not square, or whose border is cut off first.
    """
    channels, height, size = data_config["input_size"]
    if (channels, height) != (3, size) or data_config.get("crop_border_pixels"):
        raise InputError(f"timm:{architecture}: only square RGB pictures are supported, not {data_config}")
    return TargetCard(
        name=name, architecture=f"timm:{architecture}", num_classes=1000,
        wnids=imagenet_wnids(), input_size=size, resize=int(size / data_config["crop_pct"]),
        crop=size, interpolation=data_config["interpolation"], antialias=True,
        mean=tuple(data_config["mean"]), std=tuple(data_config["std"]), crop_mode=data_config["crop_mode"],
    )  # fmt: skip


class _Unavailable(Exception):
    """Weights that cannot be had; the message says what was tried."""


def _fetch(get: Callable[[], Any], name: str, address: str, cache: str) -> Any:
    """Run a library's download, or say in one line what was tried."""
    try:
        return get()
    except (OSError, RuntimeError, HfHubHTTPError) as error:
        raise _Unavailable(
            f"the weights of target {name!r} cannot be had: tried {address} and the cache in {cache} "
            f"({first_line(error)})"
        ) from error


def _hub_file(repository: str) -> str:
    """Path of a Hub repository's weights: from the cache, else downloaded.

    Raises:
        OSError: Neither has them. Without a name server that is raised at once, not after half a minute.
    """
    try:
        return hf_hub_download(repository, TIMM_WEIGHTS, local_files_only=True)
    except LocalEntryNotFoundError:
        if not _behind_proxy(ENDPOINT):  # a proxy looks names up itself; those behind it often cannot
            socket.getaddrinfo(urlsplit(ENDPOINT).hostname, None)
        return hf_hub_download(repository, TIMM_WEIGHTS)


def _behind_proxy(url: str) -> bool:
    """Whether the environment sends requests for an address through a proxy, as the Hub's client will."""
    address = urlsplit(url)
    proxies = getproxies()
    return bool({address.scheme, "all"} & proxies.keys()) and not proxy_bypass(str(address.hostname))


_LIBRARIES = {"torchvision": _torchvision, "timm": _timm}
