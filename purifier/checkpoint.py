"""Checkpoints: weights as safetensors, their config as JSON beside them, and the state to go on from."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from impure.manifests.config import from_mapping
from impure.manifests.errors import InputError, first_line
from impure.manifests.store import atomic_path, read_json, write_json
from impure.purifier.riae import RIAE, RIAEConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
STATE = "state.pt"


def save_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write a run's `config.json`; `config["riae"]` is what `load_riae` builds the network from.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        write_json(run / CONFIG, dict(config))
    except OSError as error:
        raise InputError(f"{run}: cannot be written ({error})") from error


def save_checkpoint(run: Path, model: RIAE, state: Mapping[str, Any]) -> None:
    """Write `state.pt` (model and all that training needs), then `model.safetensors` for everybody else.

    Each file appears whole or not at all, and resuming reads `state.pt` alone: a kill does no harm.

    Raises:
        InputError: The folder cannot be written, or the disk is full.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    try:
        with atomic_path(run / STATE) as temporary, temporary.open("wb") as file:
            torch.save({"model": weights, **state}, file)
        with atomic_path(run / WEIGHTS) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"{run}: the checkpoint cannot be written ({error}); make room and run again to resume"
        ) from error


def load_state(run: Path) -> dict[str, Any]:
    """Read a run's `state.pt` to the CPU; tensors and plain values only, no code is run.

    Raises:
        InputError: The file is damaged.
    """
    path = run / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises whatever a damaged archive leads it to
        raise InputError(
            f"{path}: not a readable training state ({first_line(error)}); delete it to start afresh"
        ) from error
    return state


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Load weights, all of them and no others.

    Raises:
        InputError: Names are missing or unexpected, or shapes differ; the message names the first ones.
    """
    own = model.state_dict()
    problems = {
        "missing": sorted(own.keys() - weights.keys()),
        "unexpected": sorted(weights.keys() - own.keys()),
        "of another shape": sorted(
            name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape
        ),
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:4])}" for kind, names in problems.items() if names
        )
        raise InputError(f"{where}: these weights are not of this architecture ({listed})")
    model.load_state_dict(dict(weights))


def load_riae(path: Path) -> RIAE:
    """Load a purifier for use: on the CPU, in eval mode.

    Args:
        path: A run's folder, or its `model.safetensors` with `config.json` beside it.

    Raises:
        InputError: A file is missing or damaged, or the weights do not fit the config.
    """
    folder, file = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    if not file.is_file():
        raise InputError(f"{path}: no checkpoint there; give a run's folder or its {WEIGHTS}")
    config = read_json(folder / CONFIG)
    if not isinstance(config.get("riae"), dict):
        raise InputError(f"{folder / CONFIG}: has no 'riae' object; it is no purifier's config")
    model = RIAE(from_mapping(RIAEConfig, config["riae"], str(folder / CONFIG)))
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: not a readable safetensors file ({error})") from error
    load_weights(model, weights, str(file))
    return model.eval()


def riae_config(model: RIAE) -> dict[str, Any]:
    """The network's config as JSON can hold it."""
    config = asdict(model.config)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in config.items()}
