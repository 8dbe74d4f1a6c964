import csv
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from impure.manifests.base.errors import InputError, WriteError
from impure.manifests.collection.collection import CommittedShard
from impure.purifier.defences.riae_defence import RIAEDefence
from impure.purifier.evaluation.scores import Row
from impure.purifier.evaluation.validation_table import Score
from impure.purifier.riae.model import RIAE
from impure.purifier.training.validation.stored_validator import StoredValidator
from tests.purifier.conftest import Brightness, small_riae, write_collection

CPU = torch.device("cpu")


class Counted(Brightness):
    """Counts the images that it is shown."""

    images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.images += len(images)
        return super().forward(images)


class Restless(Brightness):
    """Draws from the global generator, as no target should."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + 0 * torch.rand(len(images), 2)


def validator(
    shards: list[CommittedShard],
    out: Path,
    target: nn.Module | None = None,
    *,
    images: int = 200,
    cache_bytes: int = 1 << 30,
) -> StoredValidator:
    return StoredValidator(
        shards, {"toy": target or Brightness()}, out,
        images=images, batch_size=4, device=CPU, class_names=("dark", "bright"), cache_bytes=cache_bytes,
    )  # fmt: skip


def lines(out: Path) -> list[dict[str, str]]:
    with (out / "validation.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def row(attack: str, correct: int, n: int = 10) -> Row:
    return Row(target="toy", attack=attack, defence="riae", n=n, correct=correct)


def test_table_and_strips(shards: list[CommittedShard], tmp_path: Path) -> None:
    check = validator(shards, tmp_path)
    score = check(RIAEDefence(small_riae()), "riae", 1)
    check(RIAEDefence(small_riae()), "riae", 2)
    found = lines(tmp_path)
    assert list(found[0]) == [
        "epoch", "target", "attack", "defence", "n", "correct", "accuracy", "wilson95_low", "wilson95_high",
    ]  # fmt: skip
    assert [(line["epoch"], line["defence"], line["attack"]) for line in found] == [
        (epoch, defence, attack)
        for epoch, defence in (("0", "none"), ("1", "riae"), ("2", "riae"))
        for attack in ("clean", "fgsm", "pgd")
    ]
    assert [line["correct"] for line in found[:3]] == ["6", "0", "0"]
    assert [int(line["correct"]) for line in found[3:6]] == [each.correct for each in score.rows]
    assert [line["correct"] for line in found[3:6]] == [line["correct"] for line in found[6:]]
    strips = sorted(path.name for path in (tmp_path / "validation").iterdir())
    assert strips == ["epoch-0001.jpg", "epoch-0002.jpg"]
    with Image.open(tmp_path / "validation" / strips[0]) as sheet:
        assert sheet.width > 5 * 144 and sheet.height > 3 * 144  # the attacks' five panels, three rows


def test_a_bar_counts_the_images_bare_and_purified(
    shards: list[CommittedShard], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check = StoredValidator(
        shards, {"toy": Brightness()}, tmp_path, images=4, batch_size=2, device=CPU, progress=True
    )
    for images in (24, 12):  # of three attacks; what is bare is measured once
        check(RIAEDefence(small_riae()), "riae", 1)
        assert re.search(rf"validation: .*/{images} ", capsys.readouterr().err)


def test_what_it_measures_is_purify(shards: list[CommittedShard], tmp_path: Path) -> None:
    bright = small_riae()
    nn.init.zeros_(bright.decoder_rb1.weight)
    nn.init.constant_(bright.decoder_rb1.bias, 9.0)  # type: ignore[arg-type]  # everything becomes white
    score = validator(shards, tmp_path)(RIAEDefence(bright), "riae", 1)
    assert [each.correct for each in score.rows] == [3, 3, 3]
    assert score.attacked == score.clean == score.overall == 0.5


def test_training_goes_on_as_if_nothing_had_happened(shards: list[CommittedShard], tmp_path: Path) -> None:
    check, riae = validator(shards, tmp_path, Restless()), small_riae()
    defence = RIAEDefence(riae)
    riae.train()
    riae.decoder_pred.eval()
    weights = {name: value.clone() for name, value in riae.state_dict().items()}
    before = torch.get_rng_state()
    check(defence, "riae", 1)
    assert torch.equal(before, torch.get_rng_state())
    assert riae.training and riae.blocks.training and not riae.decoder_pred.training
    assert all(torch.equal(weights[name], value) for name, value in riae.state_dict().items())
    assert all(each.grad is None for each in riae.parameters())


def test_mode_comes_back_after_an_error(shards: list[CommittedShard], tmp_path: Path) -> None:
    riae = small_riae()
    defence = RIAEDefence(riae)
    riae.train()
    (tmp_path / "validation").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        validator(shards, tmp_path)(defence, "riae", 1)
    assert riae.training and not (tmp_path / "validation.csv").read_text().count("riae")


def test_unchanging_things_are_done_once(tmp_path: Path) -> None:
    stored = write_collection(tmp_path / "collection")
    target = Counted()
    kept = validator(stored, tmp_path / "kept", target)
    forgetful = validator(stored, tmp_path / "forgetful", cache_bytes=0)
    for each in (kept, forgetful):
        each(RIAEDefence(small_riae()), "riae", 1)
    first = target.images
    for shard in stored:
        shard.tar.write_bytes(b"")
    kept(RIAEDefence(small_riae()), "riae", 2)
    assert (first, target.images - first) == (18 + 18 + 6, 18)
    with pytest.raises(InputError):
        forgetful(RIAEDefence(small_riae()), "riae", 2)


def test_images_are_limited_and_of_all_classes(tmp_path: Path) -> None:
    stored = write_collection(tmp_path / "collection", count=20)
    score = validator(stored, tmp_path, images=4)(RIAEDefence(small_riae()), "riae", 1)
    assert [each.n for each in score.rows] == [4, 4, 4]
    assert lines(tmp_path)[0]["correct"] == "4"


def test_several_image_sizes(tmp_path: Path) -> None:
    stored = write_collection(tmp_path / "collection", sizes=((16, 16), (21, 21), (8, 13)))
    score = validator(stored, tmp_path)(RIAEDefence(small_riae()), "riae", 1)
    assert [each.n for each in score.rows] == [6, 6, 6]


def test_a_purifier_that_is_not_finite_is_wrong(shards: list[CommittedShard], tmp_path: Path) -> None:
    riae = small_riae()
    nn.init.constant_(riae.decoder_rb1.bias, torch.nan)  # type: ignore[arg-type]
    assert validator(shards, tmp_path)(RIAEDefence(riae), "riae", 1).overall == 0


def test_noise_is_the_same_whatever_was_drawn_before(
    shards: list[CommittedShard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    whole = RIAE.purify

    def watched(riae: RIAE, images: Tensor, **options: Any) -> Tensor:
        seen.append(whole(riae, images, **options))
        return seen[-1]

    monkeypatch.setattr(RIAE, "purify", watched)
    for part in ("a", "b"):
        torch.rand(3)
        validator(shards, tmp_path / part)(RIAEDefence(small_riae()), "riae", 1)
    assert len(seen) == 12  # two batches of three groups, twice
    assert all(torch.equal(one, two) for one, two in zip(seen[:6], seen[6:], strict=True))


def test_a_resumed_run_takes_epochs_again(shards: list[CommittedShard], tmp_path: Path) -> None:
    check = validator(shards, tmp_path)
    for epoch in (1, 2, 3):
        check(RIAEDefence(small_riae()), "riae", epoch)
    before = (tmp_path / "validation.csv").read_bytes()
    resumed = validator(shards, tmp_path)
    assert resumed.best() == check.best() and check.best() is not None
    resumed.forget_after(1)
    assert [line["epoch"] for line in lines(tmp_path)] == ["0"] * 3 + ["1"] * 3
    for epoch in (2, 3, 3):
        resumed(RIAEDefence(small_riae()), "riae", epoch)
    assert (tmp_path / "validation.csv").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_best_is_the_latest_of_equals(shards: list[CommittedShard], tmp_path: Path) -> None:
    check, dark = validator(shards, tmp_path), small_riae()
    assert check.best() is None
    nn.init.constant_(dark.decoder_rb1.bias, torch.nan)  # type: ignore[arg-type]
    for epoch, riae in ((1, dark), (2, small_riae()), (3, small_riae()), (4, dark)):
        check(RIAEDefence(riae), "riae", epoch)
    best = check.best()
    assert best is not None and best[0] == 3 and best[1].overall > 0


def test_at_least() -> None:
    earlier = Score(rows=(row("clean", 8), row("fgsm", 4), row("pgd", 3)))
    assert (earlier.clean, earlier.attacked, earlier.overall) == (0.8, 0.35, 0.5)
    assert earlier.at_least(None) and earlier.at_least(earlier)
    other = Score(rows=(row("clean", 7), row("fgsm", 3), row("pgd", 6)))
    assert other.at_least(earlier) and not earlier.at_least(other)
    tie = Score(rows=(row("clean", 3), row("fgsm", 4), row("pgd", 8)))
    assert tie.at_least(earlier) and earlier.at_least(tie)
    with pytest.raises(InputError, match="different targets, attacks or numbers"):
        earlier.at_least(Score(rows=(row("clean", 8), row("fgsm", 4))))
    for rows in ((), (row("clean", 1),), (row("fgsm", 1),)):
        with pytest.raises(InputError, match="needs clean and attacked"):
            Score(rows=rows)


def test_bad_input(shards: list[CommittedShard], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="given are other"):
        StoredValidator(shards, {"other": Brightness()}, tmp_path, images=4, batch_size=4, device=CPU)
    with pytest.raises(InputError, match="at most 0 images"):
        validator(shards, tmp_path, images=0)
    with pytest.raises(InputError, match="batch_size is 0"):
        StoredValidator(shards, {"toy": Brightness()}, tmp_path, images=4, batch_size=0, device=CPU)
    with pytest.raises(InputError, match="no attacked sample"):
        validator(write_collection(tmp_path / "clean", attacks=("clean",)), tmp_path)


@pytest.mark.parametrize("data", [b"nonsense\n1\n", b"epoch,target\n1,toy\n", b"epoch\n\xff\xfe\n"])
def test_damaged_table(shards: list[CommittedShard], tmp_path: Path, data: bytes) -> None:
    (tmp_path / "validation.csv").write_bytes(data)
    with pytest.raises(InputError, match=r"validation\.csv: not a readable validation table"):
        validator(shards, tmp_path)


def test_another_validation_in_the_folder(shards: list[CommittedShard], tmp_path: Path) -> None:
    validator(shards, tmp_path)(RIAEDefence(small_riae()), "riae", 1)
    shutil.rmtree(tmp_path / "validation")
    with pytest.raises(InputError, match="other targets, attacks or numbers of images"):
        validator(shards, tmp_path, images=2)
