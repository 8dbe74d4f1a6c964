"""Where a trained RIAE is read from: a folder here, or a model on the Hugging Face Hub.

Nothing of what is read is believed before it is checked: the config's sizes, then the header of the weights
against the shapes that the config makes one expect, then their values.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import huggingface_hub
from torch import Tensor

from impure.manifests.base.canonical_json import from_mapping
from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.files import read_json
from impure.manifests.collection.layout import README
from impure.pipeline.targets.weights import check_shapes, read_header, read_weights
from impure.purifier.riae.riae_config import RIAEConfig
from impure.purifier.riae.size_limits import check_sizes

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HUB_FILES = (CONFIG, WEIGHTS, README)  # of a model on the Hub

_FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
_COUNTER = "num_batches_tracked"  # of BatchNorm, a whole number
_HUB_NAME = re.compile(r"(?P<repo>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w./-]*))?", re.ASCII)


def locate(where: str | Path) -> tuple[Path, Path]:
    """Find a checkpoint's folder and its weights.

    Args:
        where: A run's folder, or its `model.safetensors` with `config.json` beside it, or, if there is no
            such path, the name of a model on the Hugging Face Hub: `owner/name` or `owner/name@revision`.

    Raises:
        InputError: There is no checkpoint, here or on the Hub.
    """
    path = Path(where)
    if not path.exists() and (path.parent / CONFIG).is_file():
        raise InputError(
            f"{path}: not there; a run that was not validated has no best/: give {path.parent} itself"
        )
    if not path.exists() and is_hub_name(str(where)):
        path = download(str(where))
    folder, file = (path, path / WEIGHTS) if path.is_dir() else (path.parent, path)
    if not file.is_file():
        raise InputError(f"{path}: no checkpoint there; give a run's folder or its {WEIGHTS}")
    return folder, file


def is_hub_name(where: str) -> bool:
    """Whether this could be `owner/name` or `owner/name@revision`."""
    return _HUB_NAME.fullmatch(where) is not None


def download(
    name: str, files: Sequence[str] = HUB_FILES, required: Sequence[str] = (CONFIG, WEIGHTS)
) -> Path:
    """Bring a checkpoint from the Hub, or from its cache on this machine.

    Args:
        name: `owner/name` or `owner/name@revision` (a branch, a tag or a commit).
        files: Patterns of the names of what is brought.
        required: What the model must have.

    Returns:
        The folder that holds the files.

    Raises:
        InputError: It is no such name, the Hub cannot be reached or does not give the model, or there is no
            checkpoint in it.
    """
    if not (parts := _HUB_NAME.fullmatch(name)):
        raise InputError(f"{name}: not a name on the Hugging Face Hub; they look like owner/name@revision")
    try:
        folder = huggingface_hub.snapshot_download(
            parts["repo"], revision=parts["revision"], allow_patterns=list(files)
        )
    except Exception as error:  # noqa: BLE001 - each version of the client raises other errors
        raise InputError(
            f"{name}: no such path here, and the Hugging Face Hub did not give it ({hub_reason(error)}). "
            "Check the path or the name, the network, and for a private model your token (`hf auth login`)"
        ) from error
    if missing := [file for file in required if not (Path(folder) / file).is_file()]:
        raise InputError(
            f"{name}: no checkpoint of impure-train; that model on the Hugging Face Hub has no {missing[0]}"
        )
    return Path(folder)


def hub_reason(error: Exception) -> str:
    """Why the Hub refused: the kind of the error, which is often all that it tells, and its first line."""
    return f"{type(error).__name__}: {first_line(error)}"


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


def read_parameters(file: Path, expected: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read weights, after their header has been compared with the shapes that are expected.

    Raises:
        InputError: The file is damaged, names or shapes differ, or a tensor is not of floating-point numbers.
    """
    header = read_header(file)
    check_shapes(expected, {name: tensor.shape for name, tensor in header.items()}, str(file))
    for name, tensor in header.items():
        if tensor.dtype not in _FLOAT_TYPES and not name.endswith(_COUNTER):
            raise InputError(f"{file}: weights must be {', '.join(_FLOAT_TYPES)}; {name} is {tensor.dtype}")
    return read_weights(file)
