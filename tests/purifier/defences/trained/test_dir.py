"""DIR: nothing of a half reaches the other's tokens, each decodes a whole image, the two are averaged."""

import math

import pytest
import torch
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.pipeline.targets.load import load_target
from impure.purifier.defences.trained.base.trainable import TrainingImages
from impure.purifier.defences.trained.dir import DIR, ComplementaryAutoencoder, JointAutoencoder, JointDIR
from impure.purifier.riae.patches import patchify, unpatchify


def small() -> ComplementaryAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ComplementaryAutoencoder(
            patch=4, width=16, depth=2, heads=2, decoder_width=8, decoder_depth=1, decoder_heads=2
        ).double()


def decoded_from(network: ComplementaryAutoencoder, images: Tensor, half: Tensor) -> Tensor:
    """One image's patches (N, 3pp) decoded from one half, token by token in the order of the patches."""
    rows, columns = images.shape[2] // 4, images.shape[3] // 4
    place = network.positions(rows, columns, 16, images)
    tokens = network.patch_embed(patchify(2 * images - 1, 4))[0] + place
    seen = tokens[half][None]
    for block in network.blocks:
        seen = block(seen)
    narrow = network.decoder_embed(network.norm(seen))[0]
    tokens = network.mask_token[0].expand(rows * columns, -1).clone()
    tokens[half] = narrow
    decoded = (tokens + network.positions(rows, columns, 8, images))[None]
    for block in network.decoder_blocks:
        decoded = block(decoded)
    return network.decoder_pred(network.decoder_norm(decoded))[0]


@torch.no_grad()
def test_the_mean_of_two_images_each_decoded_from_one_half() -> None:
    network, images = small(), torch.rand(2, 3, 8, 16).double()
    halves = network.draw_halves(images, torch.Generator().manual_seed(3))
    rebuilt = network(images, halves)
    assert halves.shape == (2, 2, 4) and not torch.equal(halves[0], halves[1])
    for row in range(2):
        one, other = (decoded_from(network, images[row : row + 1], half) for half in halves[row])
        patches = (one + other)[None] / 2
        wanted = (unpatchify(patches, 4, 8, 16) + 1) / 2
        assert torch.allclose(rebuilt[row : row + 1], wanted, atol=1e-12)


@torch.no_grad()
def test_the_halves_at_test_are_a_chessboard() -> None:
    network, images = small(), torch.rand(1, 3, 8, 8).double()
    white, black = torch.tensor([0, 3]), torch.tensor([1, 2])
    halves = torch.stack([white, black])[None]
    assert torch.allclose(DIR(network)(images), network(images, halves).clamp(0, 1))


def test_loss_is_the_mean_squared_error() -> None:
    network = small()
    images = TrainingImages(
        torch.rand(3, 3, 8, 8).double(),
        torch.rand(2, 3, 8, 8).double(),
        torch.tensor([1, 0, 1]),
        torch.zeros(3),
    )
    (loss,) = network.losses(images, torch.Generator().manual_seed(1), None)
    halves = network.draw_halves(images.adversarial, torch.Generator().manual_seed(1))
    rebuilt = network(images.adversarial, halves).detach().numpy()
    clean = images.clean.numpy()
    squares = [((rebuilt[row] - clean[clean_row]) ** 2).mean() for row, clean_row in enumerate((1, 0, 1))]
    assert loss.item() == pytest.approx(sum(squares) / 3, rel=1e-12)
    loss.backward()
    assert all(weight.grad is not None for weight in network.parameters())


def joint() -> JointAutoencoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {name: value for name, value in small().sizes().items() if name != "card"}
        return JointAutoencoder.begin(sizes, load_target("builtin"))


def test_stage_2_trains_the_classifier_too() -> None:
    network = joint().double().eval()
    adversarial, clean = torch.rand(3, 3, 48, 48).double(), torch.rand(2, 3, 48, 48).double()
    images = TrainingImages(adversarial, clean, torch.tensor([1, 0, 1]), torch.tensor([4, 0, 2]))
    total, cross_entropy, divergence = network.losses(images, torch.Generator().manual_seed(1), None)
    with torch.no_grad():
        rebuilt = network(adversarial, network.draw_halves(adversarial, torch.Generator().manual_seed(1)))
        target = load_target("builtin").double()
        of_rebuilt, of_clean = (target(part).softmax(1).numpy() for part in (rebuilt, clean))
    wanted = [-math.log(of_rebuilt[row, label]) for row, label in enumerate((4, 0, 2))]
    ratios = [(of_clean[at], of_clean[at] / of_rebuilt[row]) for row, at in enumerate((1, 0, 1))]
    apart = [sum(p * math.log(ratio) for p, ratio in zip(*pair, strict=True)) for pair in ratios]
    assert cross_entropy.item() == pytest.approx(sum(wanted) / 3, rel=1e-9)
    assert divergence.item() == pytest.approx(sum(apart) / 3, rel=1e-9)
    assert total.item() == pytest.approx(cross_entropy.item() + divergence.item())
    total.backward()
    assert all(
        weight.grad is not None and weight.grad.any() for weight in network.own_classifier.parameters()
    )


@torch.no_grad()
def test_stage_2_begins_with_stage_1_and_brings_its_classifier() -> None:
    first, second, images = small().float(), joint(), torch.rand(1, 3, 48, 48)
    second.take(first, "RUN")
    defence = JointDIR(second)
    assert torch.equal(defence(images), DIR(first)(images))
    assert torch.allclose(defence.classify(images, torch.neg), load_target("builtin")(images), atol=1e-5)
    with pytest.raises(InputError, match="RUN: has sizes"):
        second.take(ComplementaryAutoencoder(width=16, heads=2, depth=1), "RUN")
    with pytest.raises(InputError, match="no card"):
        JointDIR(JointAutoencoder(patch=4, width=16, heads=2, depth=1, decoder_width=8, decoder_heads=2))


def test_parameters_at_224_pixels() -> None:
    """A ViT block has 12 D² + 13 D parameters; the autoencoder has the sizes of RIAE's base, and MAE's."""
    with torch.device("meta"):
        count = sum(weight.numel() for weight in ComplementaryAutoencoder().parameters())
    encoder = 12 * (12 * 768**2 + 13 * 768) + 768 * 769 + 2 * 768
    decoder = 8 * (12 * 512**2 + 13 * 512) + 512 * 769 + 512 + 2 * 512 + 768 * 513
    assert count == encoder + decoder == 111_654_912


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"patch": 65}, "patch is 65"),
        ({"width": 18, "heads": 2}, "width 18"),
        ({"heads": 5}, "of its 5 heads"),
    ],
)
def test_impossible_sizes(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=f"dir: .*{message}"):
        ComplementaryAutoencoder(**sizes)  # type: ignore[arg-type]
