"""Where weights come from: the paper's release as a RIAE, and what a training begins from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json, sha256_file
from impure.purifier.checkpoints.checkpoint import CONFIG, load_riae, load_weights, locate
from impure.purifier.checkpoints.foreign import (
    ADDED,
    SCHEDULE,
    authors_facts,
    read_tensors,
    translate,
    vit_facts,
)
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import Mask, RIAEConfig

Kind = Literal["impure", "mae", "authors"]

FREE = "apache-2.0"
#: Of what is trained from such weights; "other": their authors state no licence.
LICENSES: dict[Kind, str] = {"impure": FREE, "mae": "cc-by-nc-4.0", "authors": "other"}

_MASKS: dict[tuple[str, str], Mask] = {  # the release's img_mask and feature_mask
    ("mask", "mask"): "occlusion",
    ("noise", "mask"): "image-noise",
    ("mask", "noise"): "feature-noise",
    ("noise", "noise"): "both",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a training began from; goes into its `config.json` as "init"."""

    kind: Kind
    file: str  # its name
    sha256: str
    license: str  # of what is trained from it
    taken: tuple[str, ...]  # parameters
    left: tuple[str, ...]  # parameters that stay at their random start


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Weights under RIAE's names, and what is known of their network."""

    kind: Kind
    file: Path
    license: str
    facts: dict[str, Any]  # fields of RIAEConfig
    weights: dict[str, Tensor]


def from_authors(path: Path, mask: Mask | None = None) -> RIAE:
    """Load a checkpoint of the paper's release as a RIAE.

    It computes what the release computes at test time from the same noise (see `purifier.foreign`). That a
    model was trained without the last convolution (no `--use_conv`) cannot be told from its file.

    Args:
        path: The `.pth` file: a dict with the weights as "model". No code in it is run.
        mask: The masking mode it was trained for; None where the file tells.

    Returns:
        The purifier, on the CPU, in eval mode.

    Raises:
        InputError: The file cannot be read, a tensor is missing, unexpected, wrongly shaped or not finite,
            RIAE has no counterpart to the network, or the masking mode is not told, or told in two ways.
    """
    weights, args = read_tensors(path)
    facts = authors_facts(weights, path)
    config = RIAEConfig(**facts, mask=_masking(mask, args, noise=SCHEDULE[0] in weights, path=path))
    ours = translate(weights, config, path)
    if config.mask != "occlusion":  # their file holds a token that nothing reads
        del ours["mask_token"]
    model = RIAE(config)
    load_weights(model, ours, str(path))
    return model.eval()


def initialise(riae: RIAE, path: str | Path) -> Taken:
    """Begin a training from weights that the user names.

    Args:
        riae: The network, changed in place. Its masking mode, position grid and kind of decoder may differ
            from the source's; a decoder of another kind keeps its random start.
        path: A checkpoint of ours (see `load_riae`), an MAE ViT (`.pth` or `.safetensors`, with or without
            decoder), or a `.pth` of the paper's release.

    Returns:
        What was taken and what was not.

    Raises:
        InputError: The file is none of these or cannot be read, or it is of another architecture; the message
            names the first differences.
    """
    source, here = _source(path), asdict(riae.config)
    differing = [
        f"{name} {value}, here {here[name]}"
        for name, value in source.facts.items()
        if value != here[name] and name not in ("mask", "grid", "decoder")
    ]
    if differing:
        raise InputError(f"{path}: a checkpoint of another architecture ({'; '.join(differing[:4])})")
    same_decoder = source.facts.get("decoder", "copies") == riae.config.decoder
    own = riae.state_dict()
    taken = [
        name for name in own if name in source.weights and (same_decoder or not name.startswith("decoder."))
    ]
    with torch.no_grad():
        for name in taken:
            own[name].copy_(source.weights[name])
    return Taken(
        kind=source.kind,
        file=source.file.name,
        sha256=sha256_file(source.file),
        license=source.license,
        taken=tuple(taken),
        left=tuple(name for name in own if name not in taken),
    )


def license_of(config: Mapping[str, Any]) -> str:
    """The licence under which a run's weights can be handed on, by its `config.json`.

    Raises:
        InputError: It names a licence that this version of impure does not know.
    """
    init = config.get("init") or {"license": FREE}  # empty where it began at random
    named = init.get("license") if isinstance(init, dict) else init
    if named not in LICENSES.values():
        raise InputError(f"{CONFIG}: init.license {named!r:.40} is none of {', '.join(LICENSES.values())}")
    return str(named)


def _source(path: str | Path) -> _Source:
    """Read a source, whichever it is."""
    file = Path(path)
    weights = read_tensors(file)[0] if file.is_file() else {}
    if not weights or "embedding.weight" in weights:
        return _ours(path)
    if any(name.startswith((*ADDED, "proj_")) for name in weights):
        kind: Kind = "authors"
        facts = authors_facts(weights, file)
        config = RIAEConfig(**facts)
    else:
        kind = "mae"
        facts = vit_facts(weights, file)
        config = RIAEConfig(**facts, fusion=())
    ours = translate(weights, config, file)
    return _Source(kind=kind, file=file, license=LICENSES[kind], facts=facts, weights=ours)


def _ours(path: str | Path) -> _Source:
    """A checkpoint of ours; its licence is that of what it began from."""
    folder, file = locate(path)
    model = load_riae(file)
    return _Source(
        kind="impure",
        file=file,
        license=license_of(read_json(folder / CONFIG)),
        facts=asdict(model.config),
        weights=model.state_dict(),
    )


def _masking(asked: Mask | None, args: Any, *, noise: bool, path: Path) -> Mask:
    """The masking mode, by the user, the stored arguments, or the lack of a noise schedule."""
    told = _MASKS.get((str(getattr(args, "img_mask", "")), str(getattr(args, "feature_mask", ""))))
    told = told or (None if noise else "occlusion")
    mask = asked or told
    if mask is None:
        raise InputError(f"{path}: does not tell its masking mode; name it (the paper's method is both)")
    if mask != (told or mask) or noise == (mask == "occlusion"):
        raise InputError(f"{path}: {mask} is not the masking mode of this file ({told or 'one with noise'})")
    return mask
