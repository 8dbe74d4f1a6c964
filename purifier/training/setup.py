"""Sets a training run up: ranks, device, decoding processes, photographs and feature network."""

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from impure.manifests.base.errors import InputError
from impure.pipeline import devices
from impure.pipeline.sources.open_source import open_source
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import Target
from impure.purifier.data.dataset import PairDataset
from impure.purifier.data.image_cache import room_for_cache
from impure.purifier.data.photos import MOST_SIDE
from impure.purifier.defences.trained.base.trainable import FeatureDefault
from impure.purifier.losses.feature_network import find_node
from impure.purifier.training.data_source import DataSource, PhotoSource
from impure.purifier.training.runtime_options import CacheKind
from impure.purifier.training.train_config import TrainConfig

if TYPE_CHECKING:
    from PIL.Image import Image

    from impure.pipeline.sources.source import Source, SourceImage

CPU = torch.device("cpu")
FEW_BYTES = 2 << 30  # of decoded images that are kept without being asked
MOST_WORKERS = 16  # decoding processes beside one GPU; more only wait for each other


def torchrun_ranks() -> tuple[int, int, int]:
    """This process's rank, how many ranks there are, and its rank on this machine, as torchrun says.

    Raises:
        InputError: The environment's values are no numbers.
    """
    rank, world, local = (os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    try:
        return int(rank or 0), int(world or 1), int(local or 0)
    except ValueError as error:
        raise InputError(
            f"RANK={rank} WORLD_SIZE={world} LOCAL_RANK={local}: no numbers; unset them"
        ) from error


def cores_per_rank() -> int:
    """CPU cores for this process, of those that torchrun's processes on this machine share."""
    return max(devices.cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def rank_device(name: str, threads: int | None, *, tiny: bool, local_rank: int) -> torch.device:
    """The device of this process: under torchrun each takes its GPU, or its part of the CPU.

    Args:
        name: As `--device` takes it.
        threads: CPU threads; None for one with the tiny network, else this process's cores.
        tiny: Whether the tiny network is trained, which only loses time to threads.
        local_rank: This process's number on this machine.

    Raises:
        InputError: The device cannot be used.
    """
    device = devices.open_device(name, threads or (1 if tiny else cores_per_rank()))
    return devices.device_of(device, local_rank)


def decoding_workers(asked: int | None, device: torch.device) -> int:
    """Decoding processes: as asked for, or beside a GPU this process's cores but one; none on a CPU."""
    if asked is not None or device.type == "cpu":
        return asked or 0
    return min(max(cores_per_rank() - 1, 1), MOST_WORKERS)


def default_cache(data_source: DataSource) -> CacheKind:
    """Where decoded images are kept if nobody said: in memory, if they are few."""
    data = data_source.dataset
    few = isinstance(data, PairDataset) and data.image_bytes <= min(FEW_BYTES, room_for_cache(CPU))
    return "ram" if few else "none"


def default_validate_epochs(data_source: DataSource, validated: int) -> int:
    """Epochs between validations if nobody said: until twice as many images are learnt from as are measured.

    A defence that learns from few clean images would else spend its time on validation.
    """
    return max(1, math.ceil(2 * validated / data_source.images))


def open_photographs(images: str, labels: Path | None) -> PhotoSource:
    """The training photographs of ImageNet, or of the built-in set, to pre-train on.

    Raises:
        InputError: There are none.
    """
    source = open_source(images, labels)
    photos = source.images("train")
    return PhotoSource(partial(_picture, source, photos), [photo.source_id for photo in photos])


def _picture(source: "Source", photos: "Sequence[SourceImage]", index: int) -> "Image":
    """One photograph; at the module's level, so that other processes can be handed it."""
    return source.load(photos[index], MOST_SIDE).picture


def open_features(
    config: TrainConfig, weights: Path | None, default: FeatureDefault | None = None
) -> Target | None:
    """The feature network of the loss; None for a recipe without one.

    Args:
        config: The training.
        weights: A file of its weights.
        default: What a defence's network takes where the config names none.

    Raises:
        InputError: It cannot be had, or has no such nodes: to be known before the run's folder is begun.
    """
    name = config.loss.network or (default.network if default else "")
    if not name:
        return None
    features = load_target(name, weights, option="--feature-weights FILE")
    for node in config.nodes or (
        default.nodes_of(config.feature_network) if default else config.loss.lambdas
    ):
        find_node(features, node)
    return features
