"""Weights that others trained, MAE's ViT and the paper's release, under RIAE's names.

Names, shapes and orders of these files are facts about them; none of their code is here. Their networks are
RIAE's, function for function: translating renames and reshapes.
"""

import argparse
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from impure.manifests.base.errors import InputError, first_line
from impure.purifier.checkpoints.checkpoint import check_finite, check_sizes, planned_shapes
from impure.purifier.riae.patches import SUBSETS, position_table
from impure.purifier.riae.riae_config import RIAEConfig

HEADS = {"encoder": 64, "decoder": 32}  # channels of a head, in the models of both releases
SCHEDULE = ("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod")  # the release's noise modes store it
ADDED = {"decoder_embed_norm": "bridge.1", "decoder_head_embed": "class_bridge", "decoder_rb1": "smooth"}

_BLOCK = {
    "norm1": "norm1",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.projection",
    "norm2": "norm2",
    "mlp.fc1": "mlp.0",
    "mlp.fc2": "mlp.2",
}
_KINDS = ("weight", "bias")


class _Inert:
    """Stands where a checkpoint holds a NumPy number or its type: takes whatever comes, keeps nothing."""

    __slots__ = ()

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Beside their weights, files hold what they were trained with: learning rates may be NumPy's numbers, which
# are not wanted. NumPy's own reading of them is never called: the names stand for a class that does nothing.
_NUMPY = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # NumPy 1 and 2
_SAFE: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    argparse.Namespace,
    *((_Inert, name) for name in _NUMPY),
]


def read_tensors(path: Path) -> tuple[dict[str, Tensor], argparse.Namespace | None]:
    """Read a `.safetensors` file, or what `torch.save` made of weights or of a dict that has them as "model".

    Tensors, plain values and an `argparse.Namespace` are read, NumPy's numbers passed over; no code is run.

    Returns:
        The tensors, and the arguments of their training (the file's "args"), if there are any.

    Raises:
        InputError: The file cannot be read so, or holds something else than weights.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_SAFE):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises whatever a damaged archive leads it to
        refused = re.search(r"GLOBAL \S+|Unsupported operand \d+", str(error))
        said = refused[0] if refused else first_line(error)
        raise InputError(
            f"{path}: no checkpoint that can be read safely ({said}); if you trust it, store its weights "
            'alone: torch.save({"model": …}, …)'
        ) from error
    content = content if isinstance(content, dict) else {}
    weights, args = content.get("model", content), content.get("args")
    if not isinstance(weights, dict) or not weights or not all(map(_plain, weights.values())):
        raise InputError(f"{path}: holds no weights, or more than plain tensors among them")
    return {str(name): value for name, value in weights.items()}, args


def vit_facts(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The fields of RIAEConfig that a ViT's weights tell: the encoder's, and the decoder's if there.

    Raises:
        InputError: A tensor that tells them is missing, or has too few dimensions.
    """
    width, _, patch, _ = _shape(weights, "patch_embed.proj.weight", 4, path)
    grid = math.isqrt(max(_shape(weights, "pos_embed", 3, path)[1] - 1, 0))
    facts = {"patch": patch, "grid": grid, "position_period": 10000.0, "position_scale": 1.0}
    parts = {"encoder": (width, "blocks")}
    if _has_decoder(weights):
        parts["decoder"] = (_shape(weights, "decoder_embed.weight", 2, path)[0], "decoder_blocks")
    for part, (dim, blocks) in parts.items():
        depth = len({name.split(".")[1] for name in weights if name.startswith(f"{blocks}.")})
        facts |= {f"{part}_dim": dim, f"{part}_heads": dim // HEADS[part], f"{part}_depth": depth}
    return facts


def authors_facts(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The fields of RIAEConfig that the release's weights tell: all but the masking mode.

    Raises:
        InputError: See `vit_facts`; or it has another number of subsets than RIAE, or an odd position table.
    """
    facts = vit_facts(weights, path)
    read, dim = _shape(weights, "decoder_head_embed.weight", 2, path)[1], facts["encoder_dim"]
    if read != (SUBSETS - 1) * dim:
        raise InputError(
            f"{path}: decoder_head_embed reads {read} numbers, not {SUBSETS - 1} times {dim}: RIAE has no "
            f"counterpart to a network of other than {SUBSETS} subsets"
        )
    if facts["grid"] % 2:  # in such a table their centred window begins one place after RIAE's
        raise InputError(f"{path}: pos_embed has {facts['grid']} places a side: RIAE needs an even number")
    levels = _shape(weights, "proj_weights", 4, path)[0] - 1
    return facts | {"fusion": tuple(range(0, 2 * levels, 2))}


def translate(weights: Mapping[str, Tensor], config: RIAEConfig, path: Path) -> dict[str, Tensor]:
    """Their weights as ours, after a check of every name, shape, constant and value.

    Args:
        weights: As their file has them.
        config: What `authors_facts` or `vit_facts` made of them.
        path: The file, for error messages.

    Raises:
        InputError: A check fails; the message names the tensors as the file does.
    """
    check_sizes(config, str(path))
    names = _names(weights, config)
    fixed = ["pos_embed", *(["decoder_pos_embed"] if _has_decoder(weights) else [])]
    schedule = SCHEDULE if any(name in weights for name in SCHEDULE) else ()
    known = {*names, *fixed, *schedule}
    for kind, wrong in (("missing", known - weights.keys()), ("unexpected", weights.keys() - known)):
        if wrong:
            raise InputError(f"{path}: {len(wrong)} tensors are {kind}: {', '.join(sorted(wrong)[:4])}")
    shapes = planned_shapes(replace(config, mask="occlusion"))  # the mode that has all parameters
    expected = {name: _their_shape(own, shapes[own], config) for name, own in names.items()}
    constants = _constants(config, known - names.keys())
    for name, shape in expected.items() | {(name, tuple(each.shape)) for name, each in constants.items()}:
        if tuple(weights[name].shape) != shape:
            raise InputError(f"{path}: {name} has shape {tuple(weights[name].shape)}, not {shape}")
    for name, value in constants.items():
        if not torch.allclose(weights[name].float(), value, rtol=0, atol=1e-4):
            raise InputError(f"{path}: {name} is not what RIAE computes in its place: another architecture")
    check_finite(weights, str(path))
    return {own: _as_ours(own, weights[name].float()) for name, own in names.items()}


def _plain(value: object) -> bool:
    """Whether it is a tensor of numbers that lie in memory."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return False
    return value.device.type == "cpu" and value.is_floating_point()


def _names(weights: Mapping[str, Tensor], config: RIAEConfig) -> dict[str, str]:
    """Their name of every parameter and ours."""
    modules = {"patch_embed.proj": "embedding", "norm": "encoder_norm"}
    modules |= _blocks("blocks", "encoder", config.encoder_depth)
    tokens = {"cls_token": "class_token"}
    if _has_decoder(weights):
        modules |= {"decoder_embed": "bridge.0", "decoder_norm": "decoder_norm", "decoder_pred": "pixels"}
        modules |= _blocks("decoder_blocks", "decoder", config.decoder_depth)
        tokens["mask_token"] = "mask_token"
    if "proj_weights" in weights:
        modules |= ADDED | {f"proj_layers.{level}": f"fusion.{level}" for level in range(len(config.fusion))}
        tokens["proj_weights"] = "fusion_logits"
    return tokens | {f"{name}.{kind}": f"{ours}.{kind}" for name, ours in modules.items() for kind in _KINDS}


def _blocks(theirs: str, ours: str, depth: int) -> dict[str, str]:
    """The modules of all blocks."""
    return {
        f"{theirs}.{index}.{name}": f"{ours}.{index}.{own}"
        for index in range(depth)
        for name, own in _BLOCK.items()
    }


def _their_shape(own: str, shape: tuple[int, ...], config: RIAEConfig) -> tuple[int, ...]:
    """The shape that a parameter of ours has in their files."""
    if own == "embedding.weight":
        return (shape[0], 3, config.patch, config.patch)
    if own in ("class_token", "mask_token"):
        return (1, 1, *shape)
    return (*shape, 1, 1, 1) if own == "fusion_logits" else shape


def _constants(config: RIAEConfig, names: set[str]) -> dict[str, Tensor]:
    """What RIAE computes itself, as their file holds it.

    Position tables begin with the class token's, zeros. The schedule is DDPM's (Ho et al. 2020, section 4).
    """
    signal = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    found = dict(zip(SCHEDULE, (signal.sqrt().float(), (1 - signal).sqrt().float()), strict=True))
    for name, dim in (("pos_embed", config.encoder_dim), ("decoder_pos_embed", config.decoder_dim)):
        table = position_table(config.grid, config.grid, dim).flatten(0, 1)
        found[name] = torch.cat([torch.zeros(1, dim), table])[None]
    return {name: value for name, value in found.items() if name in names}


def _as_ours(own: str, value: Tensor) -> Tensor:
    """A parameter in the shape that ours has: a patch's numbers by row, column, colour."""
    if own == "embedding.weight":
        return value.permute(0, 2, 3, 1).flatten(1)
    return value.flatten() if own in ("class_token", "mask_token", "fusion_logits") else value


def _shape(weights: Mapping[str, Tensor], name: str, dims: int, path: Path) -> tuple[int, ...]:
    """The shape of a tensor that must be there."""
    if name not in weights:
        raise InputError(
            f"{path}: has no tensor {name}; taken are RIAE's checkpoints, MAE's ViTs, the paper's release"
        )
    if weights[name].dim() != dims:
        raise InputError(f"{path}: {name} has shape {tuple(weights[name].shape)}, not {dims} dimensions")
    return tuple(weights[name].shape)


def _has_decoder(weights: Mapping[str, Tensor]) -> bool:
    """Whether it is more than an encoder."""
    return any(name.startswith("decoder_") for name in weights)
