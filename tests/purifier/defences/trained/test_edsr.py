"""EDSR against its paper: parameters, names, shapes, loss; and files that others published."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.edsr import EDSR, MEAN, halve
from impure.purifier.defences.trained.upscaler_files import Upscaler, load_upscaler

CLEAN = torch.rand(2, 3, 12, 16, generator=Generator().manual_seed(0), dtype=torch.float64)


def images(clean: Tensor = CLEAN) -> TrainingImages:
    """Clean images alone; the attacked ones are not to be looked at."""
    return TrainingImages(torch.full_like(clean, torch.nan), clean, torch.arange(2), torch.full((2,), -1))


def published(network: EDSR) -> dict[str, Tensor]:
    """Weights as the authors' program stores them."""
    unit, mean = torch.eye(3).view(3, 3, 1, 1), 255 * torch.tensor(MEAN)
    shifts = {
        "sub_mean.weight": unit,
        "sub_mean.bias": -mean,
        "add_mean.weight": unit.clone(),
        "add_mean.bias": mean,
    }
    return network.state_dict() | shifts


def test_the_paper_s_sizes() -> None:
    with torch.device("meta"):
        network = EDSR()
    shapes = {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    assert sum(map(np.prod, shapes.values())) == 1_369_859  # "1.37M"
    assert len(shapes) == 2 * (1 + 2 * 16 + 1 + 2)
    assert shapes["head.0.weight"] == (64, 3, 3, 3)
    assert shapes["body.15.body.2.weight"] == shapes["body.16.weight"] == (64, 64, 3, 3)
    assert shapes["tail.0.0.weight"] == (256, 64, 3, 3) and shapes["tail.1.weight"] == (3, 64, 3, 3)


def test_sides_are_doubled() -> None:
    with torch.no_grad():
        assert EDSR(blocks=1, width=4)(torch.rand(2, 3, 5, 7)).shape == (2, 3, 10, 14)


def test_weights_without_effect_give_the_mean_colour() -> None:
    network = EDSR(blocks=1, width=4)
    nn.init.zeros_(network.tail[1].weight)
    nn.init.zeros_(network.tail[1].bias)
    colours = network(torch.rand(1, 3, 4, 4))[0, :, 0, 0]
    assert torch.allclose(colours, torch.tensor(MEAN))


def test_halves_are_pillow_s_bicubic_ones() -> None:
    channel = CLEAN[0, 0].float()
    wanted = np.asarray(Image.fromarray(channel.numpy()).resize((8, 6), Image.Resampling.BICUBIC))
    assert np.allclose(halve(CLEAN.float())[0, 0], wanted.clip(0, 1), atol=1e-5)


def test_the_loss_is_the_mean_absolute_difference() -> None:
    network = EDSR(blocks=1, width=4).double()
    loss = network.losses(images(), Generator(), None)
    with torch.no_grad():
        doubled = network(halve(CLEAN)).numpy()
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(np.abs(doubled - CLEAN.numpy()).mean())
    loss[0].backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_published_weights_are_read(tmp_path: Path, suffix: str) -> None:
    network, path = EDSR(blocks=2, width=4).eval(), tmp_path / f"edsr.{suffix}"
    weights = published(network)
    save_file(weights, path) if suffix == "safetensors" else torch.save(weights, path)
    loaded, small = load_upscaler(path), CLEAN.float()
    assert isinstance(loaded, EDSR) and loaded.blocks == 2 and not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(small), network(small))


def test_rrdb_is_read_through_spandrel(tmp_path: Path) -> None:
    rrdb = pytest.importorskip("spandrel.architectures.ESRGAN").ESRGAN
    network, path = rrdb(num_filters=8, num_blocks=1, scale=2), tmp_path / "rrdb.pth"
    torch.save({"params_ema": network.state_dict()}, path)
    loaded = load_upscaler(path)
    assert isinstance(loaded, Upscaler)
    odd = torch.rand(1, 3, 9, 11, requires_grad=True)
    doubled = loaded(odd)
    assert doubled.shape == (1, 3, 18, 22)
    doubled.sum().backward()
    assert odd.grad is not None and odd.grad.any()


def rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.replace("body.1.", "body.99999."): weight for name, weight in weights.items()}


def widen(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return weights | {"head.0.weight": torch.zeros(512, 3, 3, 3)}


#: What RRDB is known by, in a width that would take terabytes: names and shapes are compared first.
ENORMOUS = {
    "conv_first.weight": torch.zeros(1, 3, 3, 3).expand(1 << 16, 3, 3, 3),
    "conv_first.bias": torch.zeros(1),
    "body.0.rdb1.conv1.weight": torch.zeros(32, 64, 3, 3),
    "body.1.rdb1.conv1.weight": torch.zeros(32, 64, 3, 3),
    "conv_body.weight": torch.zeros(64, 64, 3, 3),
    "conv_last.weight": torch.zeros(3, 64, 3, 3),
}

HOSTILE: dict[str, tuple[Callable[[dict[str, Tensor]], object], str]] = {
    "code": (lambda _: nn.Linear(1, 1), "not a readable weights file"),
    "text": (lambda _: "weights", "holds no weights"),
    "blocks": (rename, "count more than 128 blocks"),
    "width": (widen, "not of this architecture"),
    "nan": (lambda weights: weights | {"tail.1.bias": torch.full((3,), torch.nan)}, "NaN"),
    "mean": (lambda weights: weights | {"sub_mean.bias": torch.zeros(3)}, "sub_mean.bias is not"),
    "other": (lambda _: {"weight": torch.zeros(3)}, "neither EDSR x2 nor"),
    "rrdb": (lambda _: ENORMOUS, "neither EDSR x2 nor .*loading state_dict for RRDBNet"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_other_files_are_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    change, message = HOSTILE[kind]
    path = tmp_path / "file.pt"
    torch.save(change(published(EDSR(blocks=2, width=4))), path)
    with pytest.raises(InputError, match=message) as refused:
        load_upscaler(path)
    assert "\n" not in str(refused.value)


def test_sizes_have_bounds() -> None:
    for size in ("blocks", "width"):
        with pytest.raises(InputError, match=f"edsr: {size} is 1000000"):
            EDSR(**{size: 1000000})
