"""What is left of a perturbation, against computations written down a second time."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from impure.manifests.base.errors import InputError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.base.defence import Defence
from impure.purifier.defences.static.none import NoDefence
from impure.purifier.evaluation.evaluate_config import EvaluateConfig
from impure.purifier.evaluation.figures.residual import (
    Residual,
    draw_order,
    measure_residual,
    partly_attacked,
)
from impure.purifier.evaluation.figures.residual_plot import points_table, residual_plot, residual_table
from impure.purifier.evaluation.predict import batch_seed
from tests.purifier.conftest import Brightness, clean_image, write_collection

CPU = torch.device("cpu")


class Undo(Defence):
    """Undoes the toy attack, and attacks what is clean."""

    def defend(self, images: Tensor) -> Tensor:
        return 1 - images


class Grey(Defence):
    """Leaves nothing."""

    def defend(self, images: Tensor) -> Tensor:
        return torch.full_like(images, 0.25)


def measured(shards: list[CommittedShard], purifier: Defence | None = None, batch_size: int = 6) -> Residual:
    config = EvaluateConfig(batch_size=batch_size)
    return measure_residual(
        shards, {"toy": Brightness()}, config, device=CPU, patch=4, steps=4, purifier=purifier
    )


def correct(found: Residual) -> Mapping[tuple[str, str, float], int]:
    return {(row.row.attack, row.way, row.scale): row.row.correct for row in found.rows}


@pytest.fixture(scope="module")
def found(shards: list[CommittedShard]) -> Residual:
    return measured(shards)


def test_both_ends_are_the_given_images_to_the_bit() -> None:
    clean, attacked = torch.rand(2, 2, 3, 6, 6)
    order = draw_order(clean, 4, Generator().manual_seed(0))
    for way in (None, order):
        assert torch.equal(partly_attacked(clean, attacked, 0.0, way), clean)
        assert torch.equal(partly_attacked(clean, attacked, 1.0, way), attacked)


def test_globally_every_pixel_keeps_its_share() -> None:
    clean, attacked = torch.rand(2, 2, 3, 6, 6, dtype=torch.float64)
    wanted = clean.numpy() + 0.3 * (attacked.numpy() - clean.numpy())
    assert np.allclose(partly_attacked(clean, attacked, 0.3).numpy(), wanted, atol=1e-15)


@pytest.mark.parametrize("side", [1, 4])
def test_locally_a_share_of_the_places_keeps_all(side: int) -> None:
    """18 x 10 pixels; patches of 4 at the edge are smaller."""
    clean, attacked = torch.zeros(2, 3, 18, 10), torch.ones(2, 3, 18, 10)
    order = draw_order(clean, side, Generator().manual_seed(0))
    places = -(-18 // side) * -(-10 // side)
    before = torch.zeros_like(clean)
    for scale in (0.0, 0.1, 0.35, 0.8, 1.0):
        left = partly_attacked(clean, attacked, scale, order)
        assert (left >= before).all()  # a larger share keeps what a smaller one does
        before = left
        for image in left:
            assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
            values = [
                image[0, row : row + side, column : column + side].unique().tolist()
                for row in range(0, 18, side)
                for column in range(0, 10, side)
            ]
            assert all(len(each) == 1 for each in values)  # whole patches
            assert sum(each[0] for each in values) == pytest.approx(scale * places, abs=0.5)
    assert not torch.equal(order[0], order[1])


def test_nothing_left_is_clean_and_all_is_the_stored_attack(found: Residual) -> None:
    for attack in ("fgsm", "pgd"):
        for way in ("global", "pixels", "patches"):
            assert correct(found)[attack, way, 0.0] == 6
            assert correct(found)[attack, way, 1.0] == 0
    assert {row.row.n for row in found.rows} == {6} and len(found.rows) == 2 * 3 * 5


def test_accuracies_are_those_of_an_independent_computation(found: Residual) -> None:
    clean = np.stack([clean_image(index, (16, 16)) for index in range(6)]) / 255
    perturbation = (1 - clean) - clean
    generator = Generator().manual_seed(batch_seed(0, 0, 0))
    like = torch.zeros(6, 3, 16, 16)
    orders = {"pixels": draw_order(like, 1, generator), "patches": draw_order(like, 4, generator)}
    for (_, way, scale), right in correct(found).items():
        share = np.full((6, 16, 16, 1), scale)
        if way != "global":
            places = orders[way].numpy()[:, 0, :, :, None]
            share = (
                places < np.quantile(places, scale) if 0 < scale < 1 else np.full_like(places, scale)
            ) * 1.0
        bright = (clean + share * perturbation).mean((1, 2, 3)) > 0.5
        assert right == (bright == np.arange(6) % 2).sum(), (way, scale)


def test_where_a_purifier_lies(shards: list[CommittedShard]) -> None:
    assert [(point.scale, point.row.correct) for point in measured(shards, Grey()).points] == [(0.0, 3)] * 2
    for purifier, right in ((NoDefence(), 0), (Undo(), 6)):
        points = measured(shards, purifier, batch_size=4).points
        assert [point.row.correct for point in points] == [right] * 2
        assert [point.scale for point in points] == pytest.approx([1, 1])  # |P(x + η) - P(x)| = |η| for both


def test_clean_images_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no attacked image"):
        measured(write_collection(tmp_path, attacks=("clean",), count=2))


def test_tables_and_plot(shards: list[CommittedShard]) -> None:
    found = measured(shards, Grey())
    lines = residual_table(found).splitlines()
    assert lines[0].split() == "| attack | n | s = | 0 | 0.25 | 0.5 | 0.75 | 1 |".split()
    assert len(lines) == 2 + 2 * 3 and lines[2].split()[1:8:2] == ["fgsm", "6", "global", "100.0"]
    assert "0.000 |     50.0 |" in points_table(found.points)
    panels = residual_plot(found, "toy").axes
    assert [axes.get_title() for axes in panels] == ["fgsm", "pgd"]
    assert [len(axes.lines) for axes in panels] == [4, 4]  # three ways and the purifier
    assert list(panels[0].lines[0].get_ydata())[::4] == [100, 0]
