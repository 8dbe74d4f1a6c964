"""The strips of a comparison: other photographs under other attacks, captions that can be read."""

from pathlib import Path

import pytest
import torch

from impure.manifests.views.image_grid import Strip
from impure.purifier.data.pair_reader import PairReader
from impure.purifier.evaluation import image_strips
from impure.purifier.evaluation.image_strips import LONGEST, Example, draw_strips
from impure.purifier.evaluation.measure_group import Defended, measure_group
from impure.purifier.evaluation.predict import Loaded
from impure.purifier.evaluation.select import select_groups
from impure.purifier.evaluation.tables.differing_examples import FEW, DifferingExamples
from tests.purifier.conftest import Brightness, write_collection

FIRST, SECOND = "riae:a-long-name-of-a-run-0/best", "riae:a-long-name-of-a-run-1/best"
ATTACKS = ("fgsm", "pgd", "mifgsm", "difgsm")


@pytest.fixture
def examples(tmp_path: Path) -> list[Example]:
    """Those of two defences of which the second alone is right, on every image."""

    def defend(loaded: Loaded, number: int) -> Defended:
        images = {FIRST: loaded.attacked, SECOND: loaded.clean}
        return Defended(images, {FIRST: 1 - loaded.labels, SECOND: loaded.labels}, {})

    shards = write_collection(tmp_path, attacks=ATTACKS)
    kept = DifferingExamples([FIRST, SECOND], {"toy": Brightness()})
    for group in select_groups(shards, {"toy": Brightness()}):
        measure_group(PairReader(), group, defend, batch_size=4, device=torch.device("cpu"), observe=kept)
    return kept.examples


def test_each_shows_another_photograph_under_another_attack(examples: list[Example]) -> None:
    assert [shown.attack for shown in examples] == ["clean", *ATTACKS[: FEW - 1]]
    assert len({shown.images["clean"].tobytes() for shown in examples}) == FEW


def test_captions_fit_and_keep_the_class_and_what_tells_defences_apart(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Strip] = []
    monkeypatch.setattr(image_strips, "draw_sheet", drawn.extend)
    draw_strips(examples, ("English springer", "cassette player"))
    lines = [picture.caption.split("\n") for picture in drawn[1].groups[0]]
    assert max(len(line) for caption in lines for line in caption) <= LONGEST
    assert lines[1][0] == "adversarial" and lines[1][1] in ("English springer", "cassette player")
    assert lines[2] == ["perturbation x8"]
    assert lines[3][0].startswith("..") and lines[3][0].endswith("run-0/best")
    assert lines[4] == [lines[3][0], "residual x8"] and lines[5][0].endswith("run-1/best")
    assert examples[1].key in drawn[1].title and f"only {SECOND} is right" in drawn[1].title
