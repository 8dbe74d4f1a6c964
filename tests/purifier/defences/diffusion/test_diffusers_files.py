"""Folders in diffusers' format are loaded as diffusers loads them, and hostile ones refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from impure.manifests.base.errors import InputError
from impure.purifier.defences.diffusion.consistency_model import ConsistencyModel
from impure.purifier.defences.diffusion.diffusers_files import (
    UNET_WEIGHTS,
    find_diffusers_folder,
    load_diffusion_model,
)
from impure.purifier.defences.diffusion.noise_predictor import NoisePredictor
from impure.purifier.riae.noise_schedule import signal_shares
from tests.purifier.defences.diffusion.small_unets import SIZE, save_consistency_model, save_ddpm, unet


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return save_ddpm(tmp_path / "pipeline")


def change(path: Path, **settings: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@torch.no_grad()
def test_a_pipeline_predicts_as_in_diffusers(tmp_path: Path, prediction: str) -> None:
    from diffusers import DDPMPipeline

    folder = save_ddpm(tmp_path, beta_schedule="squaredcos_cap_v2", prediction_type=prediction)
    model, theirs = load_diffusion_model(folder), DDPMPipeline.from_pretrained(folder)
    assert isinstance(model, NoisePredictor) and model.size == SIZE and not model.training
    noisy = torch.randn(2, 3, SIZE, SIZE)
    step = theirs.scheduler.step(theirs.unet(noisy, 40).sample, 40, noisy)
    assert torch.allclose(model.clean(noisy, 40), step.pred_original_sample, atol=1e-5)


def test_a_unet_alone_has_ddpms_schedule(tmp_path: Path) -> None:
    unet().save_pretrained(tmp_path)
    model = load_diffusion_model(tmp_path)
    assert isinstance(model, NoisePredictor)
    assert torch.allclose(torch.tensor(model.signal).double(), signal_shares(), atol=1e-6)


def test_a_consistency_model(tmp_path: Path) -> None:
    model = load_diffusion_model(save_consistency_model(tmp_path))
    assert isinstance(model, ConsistencyModel) and (model.sigma_data, model.sigma_min) == (0.5, 0.002)


@torch.no_grad()
def test_names_of_earlier_attention_blocks(pipeline: Path) -> None:
    new, noisy = load_diffusion_model(pipeline), torch.randn(1, 3, SIZE, SIZE)
    path = pipeline / "unet" / UNET_WEIGHTS
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(path)
    for today, before in names.items():
        weights = {name.replace(f".{today}.", f".{before}."): tensor for name, tensor in weights.items()}
    save_file(weights, path)
    old = load_diffusion_model(pipeline)
    assert torch.equal(old.unet(noisy, 3).sample, new.unet(noisy, 3).sample)


def test_folders_are_told_by_their_files(pipeline: Path, tmp_path: Path) -> None:
    assert find_diffusers_folder(str(pipeline)) == pipeline
    assert find_diffusers_folder(str(pipeline / "unet")) == pipeline / "unet"
    assert find_diffusers_folder(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "no UNet2DModel"),
        ({"block_out_channels": [8, 1 << 40]}, "block_out_channels is .*whole numbers up to 4096"),
        ({"block_out_channels": [8] * 1000}, "block_out_channels is "),
        ({"layers_per_block": 10**9}, "layers_per_block is 1000000000"),
        ({"block_out_channels": [4096, 4096], "layers_per_block": 16}, "more than 2000000000 parameters"),
        ({"num_class_embeds": 1000}, "wants to be told an image's class"),
        ({"in_channels": 4}, "takes no RGB images"),
        ({"sample_size": [8, 9]}, "sample_size is .* it must be one number"),
        ({"sample_size": 9}, "this UNet takes no images of 9 px"),
        ({"downsample_padding": 10**9}, "downsample_padding is 1000000000"),
        ({"layers_per_block": 0}, "diffusers cannot build|not of this architecture|takes no images"),
        ({"norm_num_groups": 7}, "diffusers cannot build this UNet"),
        ({"down_block_types": ["os.system", "DownBlock2D"]}, "diffusers cannot build this UNet"),
        ({"block_out_channels": [8, 32]}, "these weights are not of this architecture"),
    ],
)
def test_a_config_that_is_not_believed(pipeline: Path, settings: dict[str, Any], message: str) -> None:
    change(pipeline / "unet" / "config.json", **settings)
    with pytest.raises(InputError, match=message):
        load_diffusion_model(pipeline)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train_timesteps": 10**9}, "at most 10000 are taken"),
        ({"beta_schedule": "magic"}, "beta_schedule 'magic' is none of linear"),
        ({"trained_betas": [0.1]}, "has trained_betas"),
        ({"beta_end": "1"}, "beta_end is '1'; it must be a number between 0 and 1"),
        ({"prediction_type": "flow"}, "it predicts 'flow'; choose from epsilon, sample, v_prediction"),
    ],
)
def test_a_schedule_that_is_not_believed(pipeline: Path, settings: dict[str, Any], message: str) -> None:
    change(pipeline / "scheduler" / "scheduler_config.json", **settings)
    with pytest.raises(InputError, match=message):
        load_diffusion_model(pipeline)


def test_pickles_are_not_read(pipeline: Path) -> None:
    weights = pipeline / "unet" / UNET_WEIGHTS
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    assert find_diffusers_folder(str(pipeline)) == pipeline
    with pytest.raises(InputError, match="no such file; of a diffusers model only safetensors are read"):
        load_diffusion_model(pipeline)


def test_damaged_weights(pipeline: Path) -> None:
    (pipeline / "unet" / UNET_WEIGHTS).write_bytes(b"\xff" * 100)
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_diffusion_model(pipeline)
