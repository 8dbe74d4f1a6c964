"""Weights that others trained: MAE's ViT and the paper's release, checked against the RIAE that they fit.

Names, shapes and orders of these files are facts about them; none of their code is here. Their networks are
RIAE's, function for function, and RIAE's parameters have their names and shapes: what their files hold beside
parameters are constants, which are compared with those that RIAE computes.
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.weights import (
    AllowedGlobal,
    check_finite,
    check_shapes,
    plain_tensors,
    read_saved,
    shapes_of,
)
from impure.purifier.riae.model import parameter_shapes
from impure.purifier.riae.patches import position_table
from impure.purifier.riae.riae_config import TILES, RIAEConfig
from impure.purifier.riae.size_limits import check_sizes

HEADS = {"encoder": 64, "decoder": 32}  # channels of a head, in the models of both releases
SCHEDULE = ("sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod")  # the release's noise modes store it
RELEASE_ONLY = ("decoder_embed_norm.", "decoder_head_embed.", "decoder_rb1.", "proj_layers.", "proj_weights")


class _Ignored:
    """Stands where a checkpoint holds a NumPy number or its type: takes any arguments and ignores them."""

    __slots__ = ()

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Beside their weights, files hold what they were trained with: learning rates may be NumPy's numbers, which
# are not wanted. NumPy's own reading of them is never called: the names stand for a class that does nothing.
_NUMPY = ("numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # NumPy 1 and 2
_ALLOWED: list[AllowedGlobal] = [
    argparse.Namespace,
    *((_Ignored, name) for name in _NUMPY),
]
_ADVICE = '; if you trust it, store its weights alone: torch.save({"model": …}, …)'


def read_tensors(path: Path) -> tuple[dict[str, Tensor], argparse.Namespace | None]:
    """Read a `.safetensors` file, or what `torch.save` made of weights or of a dict that has them as "model".

    Tensors, plain values and an `argparse.Namespace` are read, NumPy's numbers passed over; no code is run.

    Returns:
        The tensors, and the arguments of their training (the file's "args"), if there are any.

    Raises:
        InputError: The file cannot be read so, or holds something else than floating-point weights.
    """
    content = read_saved(path, "checkpoint", _ADVICE, _ALLOWED)
    is_dict = isinstance(content, dict)
    weights = plain_tensors(content.get("model", content) if is_dict else content, str(path))
    if others := [name for name, value in weights.items() if not value.is_floating_point()]:
        raise InputError(f"{path}: {others[0]} holds no floating-point numbers; it is no weight of a network")
    return weights, content.get("args")


def vit_sizes(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The fields of RIAEConfig that follow from a ViT's weights: the encoder's, and any decoder's.

    Raises:
        InputError: A tensor that they follow from is missing, or has too few dimensions.
    """
    width, _, patch, _ = _shape(weights, "patch_embed.proj.weight", 4, path)
    grid = math.isqrt(max(_shape(weights, "pos_embed", 3, path)[1] - 1, 0))
    sizes = {"patch": patch, "grid": grid, "position_period": 10000.0, "position_scale": 1.0}
    parts = {"encoder": (width, "blocks")}
    if _has_decoder(weights):
        parts["decoder"] = (_shape(weights, "decoder_embed.weight", 2, path)[0], "decoder_blocks")
    for part, (dim, blocks) in parts.items():
        depth = len({name.split(".")[1] for name in weights if name.startswith(f"{blocks}.")})
        sizes |= {f"{part}_dim": dim, f"{part}_heads": dim // HEADS[part], f"{part}_depth": depth}
    return sizes


def release_sizes(weights: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """The fields of RIAEConfig that follow from the release's weights: all but the masking mode.

    Raises:
        InputError: See `vit_sizes`; or it has another number of subsets than RIAE, or an odd position table.
    """
    sizes = vit_sizes(weights, path)
    read, dim = _shape(weights, "decoder_head_embed.weight", 2, path)[1], sizes["encoder_dim"]
    subsets = next((count for count in TILES if read == (count - 1) * dim), None)
    if subsets is None:
        raise InputError(
            f"{path}: decoder_head_embed reads {read} numbers, not 1, 2 or 3 times {dim}: RIAE has no "
            f"counterpart to a network of other than {', '.join(map(str, TILES))} subsets"
        )
    if sizes["grid"] % 2:  # in such a table their centred window begins one position after RIAE's
        raise InputError(f"{path}: pos_embed has {sizes['grid']} positions a side: RIAE needs an even number")
    levels = _shape(weights, "proj_weights", 4, path)[0] - 1
    return sizes | {"fusion": tuple(range(0, 2 * levels, 2)), "subsets": subsets}


def riae_weights(weights: Mapping[str, Tensor], config: RIAEConfig, path: Path) -> dict[str, Tensor]:
    """The parameters among the weights, in float32, after a check of every name, shape, constant and value.

    Args:
        weights: As their file has them.
        config: What `release_sizes` or `vit_sizes` made of them.
        path: The file, for error messages.

    Raises:
        InputError: A check fails; the message names the tensors.
    """
    check_sizes(config, str(path))
    expected = _expected_shapes(weights, config)
    constants = _constants(weights, config)
    check_shapes(expected | shapes_of(constants), shapes_of(weights), str(path))
    for name, value in constants.items():
        rounding = max(1e-4, torch.finfo(weights[name].dtype).eps)
        if not torch.allclose(weights[name].float(), value, rtol=0, atol=rounding):
            raise InputError(f"{path}: {name} is not what RIAE computes in its place: another architecture")
    check_finite(weights, str(path))
    return {name: weights[name].float() for name in expected}


def _expected_shapes(weights: Mapping[str, Tensor], config: RIAEConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters that the file should hold: RIAE's, or those that a ViT shares with it."""
    absent: tuple[str, ...] = () if is_release(weights) else RELEASE_ONLY
    if not _has_decoder(weights):
        absent += ("decoder_", "mask_token")
    shapes = parameter_shapes(replace(config, mask="occlusion"))  # the mode that has all parameters
    return {name: shape for name, shape in shapes.items() if not name.startswith(absent)}


def _constants(weights: Mapping[str, Tensor], config: RIAEConfig) -> dict[str, Tensor]:
    """What RIAE computes itself, as their file holds it.

    Position tables begin with the class token's, zeros. The schedule is DDPM's (Ho et al. 2020, section 4).
    """
    tables = {"pos_embed": config.encoder_dim}
    if _has_decoder(weights):
        tables["decoder_pos_embed"] = config.decoder_dim
    constants = {}
    for name, dim in tables.items():
        table = position_table(config.grid, config.grid, dim).flatten(0, 1)
        constants[name] = torch.cat([torch.zeros(1, dim), table])[None]
    if any(name in weights for name in SCHEDULE):
        signal = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
        constants |= zip(SCHEDULE, (signal.sqrt().float(), (1 - signal).sqrt().float()), strict=True)
    return constants


def _shape(weights: Mapping[str, Tensor], name: str, dims: int, path: Path) -> tuple[int, ...]:
    """The shape of a tensor that the file must have."""
    if name not in weights:
        raise InputError(
            f"{path}: has no tensor {name}; taken are RIAE's checkpoints, MAE's ViTs, the paper's release"
        )
    if weights[name].dim() != dims:
        raise InputError(f"{path}: {name} has shape {tuple(weights[name].shape)}, not {dims} dimensions")
    return tuple(weights[name].shape)


def is_release(weights: Mapping[str, Tensor]) -> bool:
    """Whether they have what the paper's release adds to MAE."""
    return any(name.startswith(RELEASE_ONLY) for name in weights)


def _has_decoder(weights: Mapping[str, Tensor]) -> bool:
    """Whether it is more than an encoder."""
    return any(name.startswith("decoder_") for name in weights)
