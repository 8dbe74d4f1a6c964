"""What a run keeps: its config, its weights for users, and the state that training goes on from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from impure.manifests.base.files import atomic_path, write_json, writing
from impure.pipeline.targets.weights import read_saved
from impure.purifier.riae.pretrained import CONFIG, WEIGHTS

STATE = "state.pt"
BEST = "best"  # folder of the best weights so far, inside a run's

#: What to do if a checkpoint cannot be written, and what PyTorch and safetensors then raise beside OSError.
_ON_FAILURE = ("make room and run again to resume", (RuntimeError, SafetensorError))


def save_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write a run's `config.json`; `config["riae"]` is the network that `RIAE.from_pretrained` builds.

    Raises:
        WriteError: The folder cannot be written.
    """
    with writing(run):
        write_json(run / CONFIG, dict(config))


def save_checkpoint(run: Path, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write `model.safetensors` for everybody, then `state.pt`: all that training needs to go on.

    Each file appears whole or not at all, and resuming reads `state.pt` alone: after a kill between the two
    the steps since the last state are taken again, and end with the same weights.

    Args:
        run: The run's folder.
        weights: What users shall load, under RIAE's names: the averaged weights where there are such.
        state: What `load_state` shall give back, tensors and plain values: with the weights to go on with,
            which need not be those of the users.

    Raises:
        WriteError: The folder cannot be written, or the disk is full.
    """
    with writing(run, *_ON_FAILURE):
        _write_weights(run, weights)
        with atomic_path(run / STATE) as temporary, temporary.open("wb") as file:
            torch.save(dict(state), file)


def save_weights(folder: Path, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
    """Write `config.json` and `model.safetensors` into a folder of their own, for `RIAE.from_pretrained`.

    Raises:
        WriteError: The folder cannot be written, or the disk is full.
    """
    save_config(folder, config)
    with writing(folder, *_ON_FAILURE):
        _write_weights(folder, weights)


def _write_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Write `model.safetensors`, atomically."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(folder / WEIGHTS) as temporary:  # save_file would keep it from all other users
        temporary.write_bytes(save(plain, metadata={"format": "pt"}))


def load_state(run: Path) -> dict[str, Any]:
    """Read a run's `state.pt` to the CPU; tensors and plain values only, no code is run.

    Raises:
        InputError: The file is damaged.
    """
    state: dict[str, Any] = read_saved(run / STATE, "training state", "; delete it to start afresh")
    return state
