"""Diffusion models of other projects: folders and Hub models in diffusers' format, as data.

Nothing of what is read is believed before it is checked: the config's sizes, then the number of weights
that it makes one expect, then the header of the weights against their shapes, then their values. Only
safetensors are read.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from impure.manifests.base.errors import InputError, first_line
from impure.manifests.base.files import read_json
from impure.manifests.commands.console import say
from impure.pipeline.targets.weights import check_shapes, load_strictly, read_header, read_weights, shapes_of
from impure.purifier.defences.base.extras import needs_extra
from impure.purifier.defences.diffusion.consistency_model import ConsistencyModel
from impure.purifier.defences.diffusion.noise_predictor import NoisePredictor
from impure.purifier.riae.pretrained import CONFIG, WEIGHTS, download, is_hub_name

PIPELINE = "model_index.json"
UNET_WEIGHTS = "diffusion_pytorch_model.safetensors"
HUB_FILES = (PIPELINE, "*config.json", f"*{UNET_WEIGHTS}", WEIGHTS)

MAX_PARAMETERS = 2_000_000_000
MAX_STEPS = 10_000
#: The largest whole number of each setting of a UNet, or of each number in its list.
LARGEST = {
    "sample_size": 1024,
    "layers_per_block": 16,
    "block_out_channels": 4096,
    "attention_head_dim": 4096,
    "norm_num_groups": 4096,
    "attn_norm_num_groups": 4096,
    "time_embedding_dim": 16384,
    "downsample_padding": 1,
    "num_train_timesteps": MAX_STEPS,
}
MAX_BLOCKS = 8
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid")
_SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")


def find_diffusers_folder(where: str) -> Path | None:
    """The folder in diffusers' format that a path or a name on the Hugging Face Hub stands for.

    Returns:
        None where it stands for something else, such as a run of impure-train.

    Raises:
        InputError: The Hub does not give the model.
    """
    path = Path(where)
    if not path.exists() and is_hub_name(where):
        path = download(where, HUB_FILES, required=())
        say(f"{where}: from the Hugging Face Hub, commit {path.name}; its model card names its licence")
    is_diffusers = (path / PIPELINE).is_file() or any(path.glob("diffusion_pytorch_model*"))
    return path if is_diffusers else None


def load_diffusion_model(folder: Path) -> NoisePredictor | ConsistencyModel:
    """Load a UNet, or the UNet and the scheduler of a pipeline: for use, on the CPU, in eval mode.

    Args:
        folder: With `unet/config.json` and `scheduler/scheduler_config.json`, or with the UNet's files alone:
            then the schedule is DDPM's.

    Raises:
        InputError: The files cannot be read, describe no unconditional `UNet2DModel` on RGB images, or one
            that is too large, or their weights are not the UNet's.
    """
    unet, size = _load_unet(folder / "unet" if (folder / "unet").is_dir() else folder)
    path = _scheduler(folder)
    settings = read_json(path) if path else {}
    where = str(path)
    if settings.get("_class_name") == "CMStochasticIterativeScheduler":
        sigmas = {
            name: _number(settings, name, where) for name in ("sigma_data", "sigma_min") if name in settings
        }
        return ConsistencyModel(unet, size, **sigmas).eval()
    prediction = settings.get("prediction_type", "epsilon")
    return NoisePredictor(unet, _signal(settings, where), size, prediction).eval()


def _scheduler(folder: Path) -> Path | None:
    """The scheduler's settings: in a folder of their own, or beside the UNet's; None where there are none."""
    places = (folder / "scheduler", folder, folder.parent / "scheduler")
    return next((path for place in places if (path := place / "scheduler_config.json").is_file()), None)


def _load_unet(folder: Path) -> tuple[nn.Module, int]:
    """The UNet of a folder, and the side of its images."""
    path, weights = folder / CONFIG, folder / UNET_WEIGHTS
    config = read_json(path)
    _check_config(config, str(path))
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; of a diffusers model only safetensors are read")
    with torch.device("meta"):  # no memory is taken before the file has been looked at
        blank = _build_unet(config, str(path))
        expected = shapes_of(blank.state_dict())
        if sum(map(math.prod, expected.values())) > MAX_PARAMETERS:
            raise InputError(f"{path}: refused, it describes more than {MAX_PARAMETERS} parameters")
        _check_pass(blank, config["sample_size"], str(path))
    header = {_renamed(name): tensor.shape for name, tensor in read_header(weights).items()}
    check_shapes(expected, header, str(weights))
    unet = _build_unet(config, str(path))
    tensors = {_renamed(name): tensor for name, tensor in read_weights(weights).items()}
    load_strictly(unet, tensors, str(weights))
    return unet.requires_grad_(False), config["sample_size"]


def _check_pass(unet: nn.Module, size: int, where: str) -> None:
    """Make sure that images go through: some UNets can be built, but not be run."""
    try:
        shape = tuple(unet(torch.empty(1, 3, size, size), 0).sample.shape)
    except Exception as error:  # torch raises whatever an impossible size leads it to
        raise InputError(f"{where}: this UNet takes no images of {size} px ({first_line(error)})") from error
    if (shape[0], *shape[2:]) != (1, size, size):
        raise InputError(f"{where}: this UNet makes {shape} of images of {size} px")


def _renamed(name: str) -> str:
    """A weight's name today: diffusers' first attention blocks had others, as models on the Hub still do."""
    for old, new in _OLD_NAMES.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _build_unet(config: Mapping[str, Any], where: str) -> nn.Module:
    """An untrained UNet.

    Raises:
        InputError: diffusers cannot build one of that config, or is not installed.
    """
    with needs_extra("a diffusion model", "diffusion"):
        from diffusers import UNet2DModel
    settings = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        unet: nn.Module = UNet2DModel(**settings)
    except Exception as error:  # diffusers and torch raise whatever an impossible size leads them to
        raise InputError(f"{where}: diffusers cannot build this UNet ({first_line(error)})") from error
    return unet


def _check_config(config: Mapping[str, Any], where: str) -> None:
    """Refuse what is no unconditional UNet on square RGB images of moderate size."""
    if config.get("_class_name") != "UNet2DModel":
        raise InputError(f"{where}: describes a {config.get('_class_name')!r:.40}, no UNet2DModel")
    if config.get("num_class_embeds") is not None or config.get("class_embed_type") is not None:
        raise InputError(f"{where}: this UNet wants to be told an image's class; take an unconditional one")
    if config.get("in_channels", 3) != 3 or config.get("out_channels", 3) not in (3, 6):
        raise InputError(f"{where}: this UNet takes no RGB images (in_channels, out_channels)")
    size = config.get("sample_size")
    if type(size) is not int or size < 1:
        raise InputError(f"{where}: sample_size is {size!r:.40}; it must be one number from 1")
    for name, largest in LARGEST.items():
        value = config.get(name)
        numbers = value if isinstance(value, list) else [] if value is None else [value]
        if len(numbers) > MAX_BLOCKS or any(type(n) is not int or not 0 <= n <= largest for n in numbers):
            raise InputError(f"{where}: {name} is {value!r:.40}; whole numbers up to {largest} are taken")


def _signal(settings: Mapping[str, Any], where: str) -> Sequence[float]:
    """ᾱ_t of a scheduler, as diffusers computes it; DDPM's where nothing is said."""
    from diffusers import DDPMScheduler

    steps = settings.get("num_train_timesteps", 1000)
    if type(steps) is not int or not 0 < steps <= MAX_STEPS:
        raise InputError(f"{where}: num_train_timesteps is {steps!r:.40}; at most {MAX_STEPS} are taken")
    if settings.get("beta_schedule", "linear") not in _SCHEDULES:
        raise InputError(
            f"{where}: beta_schedule {settings['beta_schedule']!r:.40} is none of {', '.join(_SCHEDULES)}"
        )
    for name in ("beta_start", "beta_end"):
        if name in settings:
            _number(settings, name, where)
    if settings.get("trained_betas") is not None:
        raise InputError(f"{where}: has trained_betas; schedules are {', '.join(_SCHEDULES)}")
    schedule = DDPMScheduler(**{name: settings[name] for name in _SCHEDULE if name in settings})
    return [float(share) for share in schedule.alphas_cumprod]


def _number(settings: Mapping[str, Any], name: str, where: str) -> float:
    """A setting that must be a positive number below 1."""
    value = settings[name]
    if type(value) not in (int, float) or not 0 < value < 1:
        raise InputError(f"{where}: {name} is {value!r:.40}; it must be a number between 0 and 1")
    return float(value)
