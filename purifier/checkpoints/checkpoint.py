"""Checkpoints: weights as safetensors, their config as JSON beside them, and the state to go on from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from impure.manifests.base.canonical_json import from_mapping
from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.files import atomic_path, read_json, write_json, writing
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
STATE = "state.pt"
BEST = "best"  # folder of the best weights so far, inside a run's

#: The largest network that is loaded: a stranger's config must not fill the memory.
MOST = {
    "patch": 256,
    "grid": 256,
    **{f"{part}_dim": 4096 for part in ("encoder", "decoder")},
    **{f"{part}_depth": 64 for part in ("encoder", "decoder")},
    **{f"{part}_heads": 256 for part in ("encoder", "decoder")},
    "position_period": 1e9,
    "position_scale": 1e9,
}
MAX_POSITIONS = 1 << 27  # numbers in both position tables together

#: What to do where a checkpoint cannot be written, and what PyTorch and safetensors then raise beside OSError.
_ON_FAILURE = ("make room and run again to resume", (RuntimeError, SafetensorError))

_FLOATS = ("F64", "F32", "F16", "BF16")


def save_config(run: Path, config: Mapping[str, Any]) -> None:
    """Write a run's `config.json`; `config["riae"]` is what `load_riae` builds the network from.

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
    """Write `config.json` and `model.safetensors` into a folder of their own, for `load_riae`.

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
    path = run / STATE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises whatever a damaged archive leads it to
        raise InputError(
            f"{path}: not a readable training state ({first_line(error)}); delete it to start afresh"
        ) from error
    return state


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Load weights, all of them and no others.

    Raises:
        InputError: Names are missing or unexpected, or shapes differ; the message names the first ones. Or a
            value is not finite.
    """
    check_shapes(shapes_of(model.state_dict()), shapes_of(weights), where)
    check_finite(weights, where)
    model.load_state_dict(dict(weights))


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor."""
    return {name: tuple(value.shape) for name, value in weights.items()}


def check_shapes(
    expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]], where: str
) -> None:
    """Make sure that names and shapes are the expected ones.

    Raises:
        InputError: They are not; the message names the first ones.
    """
    both = expected.keys() & found.keys()
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": [
            f"{name} {tuple(found[name])}, not {tuple(expected[name])}"
            for name in sorted(both)
            if tuple(found[name]) != tuple(expected[name])
        ],
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{len(names)} {kind}: {', '.join(names[:4])}" for kind, names in problems.items() if names
        )
        raise InputError(f"{where}: these weights are not of this architecture ({listed})")


def check_finite(weights: Mapping[str, Tensor], where: str) -> None:
    """Make sure that no weight is NaN or infinite.

    Raises:
        InputError: One is; the message names the first.
    """
    if broken := [name for name, value in weights.items() if not bool(value.isfinite().all())]:
        raise InputError(
            f"{where}: refused, {len(broken)} tensors hold NaN or infinity, the first is {broken[0]}; "
            "take an earlier checkpoint"
        )


def check_sizes(config: RIAEConfig, where: str) -> None:
    """Make sure that a network that a stranger describes can be built, and is not too large to try.

    Raises:
        InputError: A size is no whole number, or beyond `MOST` or `MAX_POSITIONS`.
    """
    for name, most in MOST.items():
        value = getattr(config, name)
        if not isinstance(value, type(most) | int) or isinstance(value, bool) or value > most:
            raise InputError(f"{where}: {name} is {value!r:.40}; a number up to {most} is taken")
    fusion = config.fusion
    if not isinstance(fusion, tuple) or any(type(each) is not int for each in fusion):
        raise InputError(f"{where}: fusion is {fusion!r:.40}; it must be a list of block numbers")
    if len(set(fusion)) != len(fusion):
        raise InputError(f"{where}: fusion {fusion!r:.40} names a block twice")
    if (positions := config.grid**2 * (config.encoder_dim + config.decoder_dim)) > MAX_POSITIONS:
        raise InputError(f"{where}: refused, grid {config.grid} makes position tables of {positions} numbers")


def load_riae(where: str | Path) -> RIAE:
    """Load a purifier for use: on the CPU, in eval mode.

    Nothing of the config is believed before the weights' header has been compared with it.

    Args:
        where: A run's folder, or its `model.safetensors` with `config.json` beside it, or, if there is no
            such path, the name of a model on the Hugging Face Hub: `owner/name` or `owner/name@revision`.

    Raises:
        InputError: A file is missing or damaged, the config describes no network of ours or an enormous one,
            the weights do not fit it or are not finite, or the Hub does not give the model.
    """
    folder, file = locate(where)
    config = read_config(folder)
    _check_header(file, config)
    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: not a readable safetensors file ({error})") from error
    model = RIAE(config)
    load_weights(model, weights, str(file))
    return model.eval()


def locate(where: str | Path) -> tuple[Path, Path]:
    """Find a checkpoint's folder and its weights; see `load_riae`.

    Raises:
        InputError: There is none, here or on the Hub.
    """
    from impure.purifier.checkpoints.hub import fetch, is_hub_name  # it imports this module

    path = Path(where)
    if not path.exists() and is_hub_name(str(where)):
        path = fetch(str(where))
    folder, file = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    if not file.is_file():
        raise InputError(f"{path}: no checkpoint there; give a run's folder or its {WEIGHTS}")
    return folder, file


def read_config(folder: Path) -> RIAEConfig:
    """The network that a folder's `config.json` describes.

    Raises:
        InputError: It cannot be read, or describes no network that is loaded (see `check_sizes`).
    """
    path = folder / CONFIG
    config = read_json(path)
    if not isinstance(config.get("riae"), dict):
        raise InputError(f"{path}: has no 'riae' object; it is no purifier's config")
    riae = from_mapping(RIAEConfig, config["riae"], str(path))
    check_sizes(riae, str(path))
    return riae


def planned_shapes(config: RIAEConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's weights; takes no memory for them."""
    with torch.device("meta"):
        return shapes_of(RIAE(config).state_dict())


def _check_header(file: Path, config: RIAEConfig) -> None:
    """Compare names, shapes and types of stored weights with a config before any is read.

    Raises:
        InputError: They differ, or the file is damaged.
    """
    try:
        with safe_open(file, "pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}
            shapes = {name: each.get_shape() for name, each in slices.items()}
            kinds = {name: each.get_dtype() for name, each in slices.items()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{file}: not a readable safetensors file ({error})") from error
    check_shapes(planned_shapes(config), shapes, str(file))
    if others := [f"{name} {kind}" for name, kind in kinds.items() if kind not in _FLOATS]:
        raise InputError(f"{file}: weights must be {', '.join(_FLOATS)}; {others[0]} is none of these")
