"""The DDPM that impure-train trains: the paper's size, its loss, and what it can be saved as."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.checkpoints.checkpoint import save_weights
from impure.purifier.defences.defence_registry import build_defence
from impure.purifier.defences.diffusion.ddpm import DDPM
from impure.purifier.defences.diffusion.diffpure import DiffPure
from impure.purifier.defences.trained.base.trainable import TrainingImages
from tests.purifier.defences.diffusion.small_unets import save_consistency_model

SIZES = {"size": 8, "channels": 8, "levels": 2, "blocks": 1, "attention": 1}


@pytest.fixture
def ddpm() -> DDPM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return DDPM(**SIZES)


def batch(count: int, side: int = 8) -> TrainingImages:
    clean = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))
    return TrainingImages(clean, clean, torch.arange(count), torch.full((count,), -1))


def test_the_papers_network_has_its_parameters_and_resolutions() -> None:
    with torch.device("meta"):
        network = DDPM()
        unet = network.model.unet
        assert sum(weight.numel() for weight in network.parameters()) == 35_746_307  # 35.7 M (appendix B)
        assert unet(torch.rand(2, 3, 32, 32), 5).sample.shape == (2, 3, 32, 32)
    assert unet.config.block_out_channels == (128, 256, 256, 256) and network.model.size == 32


class Remembers(nn.Module):
    """Predicts no noise, and keeps what it was shown."""

    def forward(self, noisy: Tensor, step: Tensor) -> "Remembers":
        self.noisy, self.step, self.sample = noisy, step, torch.zeros_like(noisy)
        return self


def test_the_loss_is_that_of_the_predicted_noise(ddpm: DDPM) -> None:
    """Grey images leave the noise alone in x_t, from which the loss of predicting none follows."""
    ddpm.model.unet = Remembers()
    grey = torch.full((64, 3, 11, 11), 0.5)
    images = TrainingImages(grey, grey, torch.arange(64), torch.zeros(64, dtype=torch.long))
    (loss,) = ddpm.losses(images, torch.Generator().manual_seed(0), None)
    seen = ddpm.model.unet
    share = torch.tensor(ddpm.model.signal)[seen.step].view(-1, 1, 1, 1)
    noise = seen.noisy / (1 - share).sqrt()
    assert torch.allclose(loss, noise.square().mean(), rtol=1e-5) and abs(noise.std() - 1) < 0.02
    assert seen.step.min() < 100 and seen.step.max() > 900 and len(set(seen.step.tolist())) > 50


def test_the_generator_decides(ddpm: DDPM) -> None:
    state = torch.get_rng_state()
    first, again, other = (
        ddpm.losses(batch(4), torch.Generator().manual_seed(seed), None) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_it_learns(ddpm: DDPM) -> None:
    generator, images = torch.Generator().manual_seed(0), batch(16)
    optimizer, losses = torch.optim.Adam(ddpm.parameters(), lr=5e-3), []
    for _ in range(25):
        (loss,) = ddpm.losses(images, generator, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@torch.no_grad()
def test_a_run_and_a_pipeline_of_its_unet_are_the_same_defence(ddpm: DDPM, tmp_path: Path) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler

    save_weights(tmp_path / "run", ddpm.state_dict(), {"network": {"name": "ddpm", **ddpm.sizes()}})
    DDPMPipeline(ddpm.model.unet, DDPMScheduler()).save_pretrained(tmp_path / "pipeline")
    run, pipeline = (build_defence(f"diffpure:weights={tmp_path / name}:t=3") for name in ("run", "pipeline"))
    images = torch.rand(2, 3, 9, 12)
    assert torch.allclose(run(images), pipeline(images), atol=1e-5)
    assert isinstance(run, DiffPure) and run.t == 3


def test_a_consistency_model_serves_consistency_alone(tmp_path: Path) -> None:
    where = save_consistency_model(tmp_path)
    assert build_defence(f"consistency:weights={where}:sigma=0.5")(torch.rand(1, 3, 9, 9)).shape == (
        1,
        3,
        9,
        9,
    )
    with pytest.raises(InputError, match="goes back step by step: it takes no consistency model"):
        build_defence(f"diffpure:weights={where}")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"channels": 10**9}, "ddpm: channels is 1000000000; it must be from 1 to 512"),
        ({"levels": 10**9}, "levels is 1000000000"),
        ({"attention": 4}, "attention is 4; it must be from 0 to 3"),
        ({"size": 30}, "size is 30; 4 levels want multiples of 8"),
    ],
)
def test_sizes_out_of_bounds(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DDPM(**sizes)
