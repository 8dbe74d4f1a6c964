"""Begins a training from weights that the user names, and records which they are and their licence."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, sha256_file
from impure.purifier.checkpoints.foreign import (
    is_release,
    read_tensors,
    release_sizes,
    riae_weights,
    vit_sizes,
)
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.pretrained import CONFIG, locate
from impure.purifier.riae.riae_config import RIAEConfig

Origin = Literal["impure", "mae", "release"]

OUR_LICENSE = "apache-2.0"
#: Of what is trained from such weights; "other": the authors of the release state no licence.
LICENSES: dict[Origin, str] = {"impure": OUR_LICENSE, "mae": "cc-by-nc-4.0", "release": "other"}

#: Fields of RIAEConfig in which a network may differ from that of the weights it begins with.
_FREE = ("mask", "grid", "decoder", "padding", "image_step", "feature_step")


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRecord:
    """What a training began from; goes into its `config.json` as "init"."""

    origin: Origin
    file: str  # its name
    sha256: str
    license: str  # of what is trained from it
    loaded: tuple[str, ...]  # parameters
    random: tuple[str, ...]  # parameters that keep their random start


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Weights to begin from, and what is known of their network."""

    origin: Origin
    file: Path
    license: str
    sizes: dict[str, Any]  # fields of RIAEConfig
    weights: dict[str, Tensor]


def initialise(riae: RIAE, path: str | Path) -> InitRecord:
    """Begin a training from weights that the user names.

    Args:
        riae: The network, changed in place. Its masking mode, position grid, kind of decoder, padding and
            noise steps may differ from the source's; a decoder of another kind keeps its random start.
        path: A checkpoint of ours (see `RIAE.from_pretrained`), an MAE ViT (`.pth` or `.safetensors`, with or
            without decoder), or a `.pth` of the paper's release.

    Returns:
        What was taken and what was not.

    Raises:
        InputError: The file is none of these or cannot be read, or it is of another architecture; the message
            names the first differences.
    """
    source = _source(path)
    _check_sizes(source.sizes, riae.config, str(path))
    other_decoder = source.sizes.get("decoder", "copies") != riae.config.decoder
    parameters = riae.state_dict()
    loaded = [
        name
        for name in parameters
        if name in source.weights and not (other_decoder and name.startswith("decoder_blocks."))
    ]
    with torch.no_grad():
        for name in loaded:
            parameters[name].copy_(source.weights[name])
    return InitRecord(
        origin=source.origin,
        file=source.file.name,
        sha256=sha256_file(source.file),
        license=source.license,
        loaded=tuple(loaded),
        random=tuple(name for name in parameters if name not in loaded),
    )


def _check_sizes(sizes: Mapping[str, Any], wanted: RIAEConfig, where: str) -> None:
    """Refuse weights of a network whose sizes are others.

    Raises:
        InputError: They are; the message names the first differences.
    """
    differing = [
        f"{name} {value}, here {getattr(wanted, name)}"
        for name, value in sizes.items()
        if value != getattr(wanted, name) and name not in _FREE
    ]
    if differing:
        raise InputError(f"{where}: a checkpoint of another architecture ({'; '.join(differing[:4])})")


def license_of(config: Mapping[str, Any]) -> str:
    """The licence under which a run's weights can be handed on, by its `config.json`.

    Raises:
        InputError: It names a licence that this version of impure does not know.
    """
    init = config.get("init") or {"license": OUR_LICENSE}  # empty where it began at random
    named = init.get("license") if isinstance(init, dict) else init
    if named not in LICENSES.values():
        raise InputError(f"{CONFIG}: init.license {named!r:.40} is none of {', '.join(LICENSES.values())}")
    return str(named)


def _source(path: str | Path) -> _Source:
    """Read a source, whichever it is."""
    file = Path(path)
    weights = read_tensors(file)[0] if file.is_file() else {}
    if not weights or _is_ours(weights):
        return _our_checkpoint(path)
    if is_release(weights):
        origin: Origin = "release"
        sizes = release_sizes(weights, file)
        config = RIAEConfig(**sizes)
    else:
        origin = "mae"
        sizes = vit_sizes(weights, file)
        config = RIAEConfig(**sizes, fusion=())
    parameters = riae_weights(weights, config, file)
    return _Source(origin=origin, file=file, license=LICENSES[origin], sizes=sizes, weights=parameters)


def _is_ours(weights: Mapping[str, Tensor]) -> bool:
    """Whether they are RIAE's: parameters alone, where others store their position tables as well."""
    return "patch_embed.proj.weight" in weights and "pos_embed" not in weights


def _our_checkpoint(path: str | Path) -> _Source:
    """A checkpoint of ours; its licence is that of what it began from."""
    folder, file = locate(path)
    model = RIAE.from_pretrained(file)
    return _Source(
        origin="impure",
        file=file,
        license=license_of(read_json(folder / CONFIG)),
        sizes=asdict(model.config),
        weights=model.state_dict(),
    )
