"""A folder with a planted backdoor is written anew without it, whatever interrupts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from impure.manifests.base.errors import InputError, WriteError
from impure.manifests.base.parquet import read_table
from impure.pipeline.sources.folder import FolderSource
from impure.pipeline.targets.target import Target
from impure.pipeline.targets.target_card import TargetCard
from impure.purifier.defences.base.defence import Defence
from impure.purifier.sanitise.sanitise_config import SanitiseConfig
from impure.purifier.sanitise.sanitise_folder import SCHEMA, SanitiseSummary, sanitise_folder

WNIDS = tuple(f"n0000000{number}" for number in range(5))
COLOURS = torch.tensor([[0.1, 0.1, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.8, 0.8, 0.1]])
CONFIG = SanitiseConfig(batch_size=7)


class ColourAndCorner(nn.Module):
    """Mean colour, and whether the upper left corner is white."""

    def forward(self, images: Tensor) -> Tensor:
        corner = images[:, :, 0, 0].amin(1, keepdim=True) > 0.9
        return torch.cat([images[:, :, 4:, 4:].mean((2, 3)), corner], dim=1)


def backdoored_target() -> Target:
    """The class of the nearest colour, but class 0 for a white corner."""
    head = nn.Linear(4, 5)
    with torch.no_grad():
        head.weight.copy_(torch.cat([2 * COLOURS, torch.tensor([[9.0], [0], [0], [0], [0]])], dim=1))
        head.bias.copy_(-COLOURS.square().sum(1))
    card = TargetCard(
        name="toy", architecture="timm:toy", num_classes=5, wnids=WNIDS, input_size=8, resize=8, crop=8,
        interpolation="bilinear", antialias=True, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0),
    )  # fmt: skip
    return Target(card, nn.Sequential(ColourAndCorner(), head))


class CornerEraser(Defence):
    """Paints the corner over, and everything a little darker."""

    def defend(self, images: Tensor) -> Tensor:
        inner = torch.ones_like(images)
        inner[:, :, :2, :2] = 0
        return images * inner * 0.98


def write_image(path: Path, label: int, *, trigger: bool = False) -> None:
    pixels = np.full((8, 8, 3), np.round(255 * COLOURS[label].numpy()), np.uint8)
    if trigger:
        pixels[:2, :2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def poisoned(tmp_path: Path) -> FolderSource:
    """Four images a class, and four of class 2 that carry the trigger and lie in class 0's folder."""
    root = tmp_path / "images"
    for label, wnid in enumerate(WNIDS):
        for index in range(4):
            write_image(root / "train" / wnid / f"{index}.png", label)
    for name in ("2.bmp", "p1.bmp", "p2.bmp", "p3.bmp"):
        write_image(root / "train" / WNIDS[0] / name, 2, trigger=True)
    return FolderSource(root)


def sanitise(
    source: FolderSource, out: Path, config: SanitiseConfig = CONFIG, **more: object
) -> SanitiseSummary:
    target = backdoored_target()
    more = {"purifier": {"name": "eraser"}, **more}
    return sanitise_folder(source, "train", CornerEraser(), target, config, out, **more)  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_triggers_are_taken_out_and_the_rest_is_left(poisoned: FolderSource, tmp_path: Path) -> None:
    summary = sanitise(poisoned, tmp_path / "out")
    assert summary == SanitiseSummary(kept=20, purified=4, unreadable=0, target_classes=(WNIDS[0],))
    clean, before = files(tmp_path / "out"), files(poisoned.root)
    benign = {name for name in before if name.endswith(".png")}
    assert all(clean.pop(name) == before[name] for name in benign)
    purified = {f"train/{WNIDS[2]}/{name}.png" for name in ("p1", "p2", "p3")}
    twin = next(name for name in clean if name.startswith(f"train/{WNIDS[2]}/2-"))  # 2.png is there already
    assert clean.keys() == purified | {twin, "report.parquet", "sanitised.json"}
    with Image.open(tmp_path / "out" / twin) as image:
        assert image.size == (8, 8) and image.getpixel((0, 0)) == (0, 0, 0)


def test_the_report_says_why(poisoned: FolderSource, tmp_path: Path) -> None:
    sanitise(poisoned, tmp_path / "out")
    table, config = read_table(tmp_path / "out" / "report.parquet", SCHEMA)
    rows = {row["source_id"]: row for row in table.to_pylist()}
    assert (
        len(rows) == 24
        and config["rounds"] == 4
        and config["target"]["name"] == "toy"
        and config["purifier"]["name"] == "eraser"
    )
    suspect, benign = rows[f"train/{WNIDS[0]}/p1.bmp"], rows[f"train/{WNIDS[3]}/1.png"]
    assert suspect["labels"] == [WNIDS[0], *[WNIDS[2]] * 4] and suspect["flips"] == 4
    assert (
        suspect["why"] == f"4 of 4 rounds give another label, and {WNIDS[0]} has unusually many such images"
    )
    assert (suspect["suspect"], suspect["chosen_round"]) == (True, 1)  # nearest: later rounds are darker
    assert suspect["file"] == f"train/{WNIDS[2]}/p1.png"
    assert (benign["suspect"], benign["flips"], benign["file"]) == (False, 0, benign["source_id"])


def test_an_interrupted_call_goes_on_to_the_same_files(poisoned: FolderSource, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    done: list[int] = []

    def stop(count: int) -> None:
        done.append(count)
        if len(done) == 2:
            raise Stop

    with pytest.raises(Stop):
        sanitise(poisoned, tmp_path / "out", advance=stop)
    first = (tmp_path / "out" / "_work" / "000000000.json").stat().st_mtime_ns
    summary = sanitise(poisoned, tmp_path / "out", advance=lambda count: done.append(
        (tmp_path / "out" / "_work" / "000000000.json").stat().st_mtime_ns == first
    ))  # fmt: skip
    assert all(done[2:]) and len(done) == 6
    assert sanitise(poisoned, tmp_path / "out") == summary == sanitise(poisoned, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_unreadable_images_are_named_and_left_out(poisoned: FolderSource, tmp_path: Path) -> None:
    broken = poisoned.root / "train" / WNIDS[1] / "broken.png"
    broken.write_bytes(b"no image")
    assert sanitise(poisoned, tmp_path / "out").unreadable == 1
    rows = read_table(tmp_path / "out" / "report.parquet", SCHEMA)[0].to_pylist()
    (row,) = (row for row in rows if not row["file"])
    assert row["source_id"].endswith("broken.png") and "cannot be decoded" in row["why"]
    assert not list((tmp_path / "out").rglob("broken*"))


def test_without_a_backdoor_everything_is_kept(poisoned: FolderSource, tmp_path: Path) -> None:
    for path in (poisoned.root / "train").rglob("*.bmp"):
        path.unlink()
    assert sanitise(poisoned, tmp_path / "out") == SanitiseSummary(
        kept=20, purified=0, unreadable=0, target_classes=()
    )


def test_what_is_refused(poisoned: FolderSource, tmp_path: Path) -> None:
    sanitise(poisoned, tmp_path / "out")
    with pytest.raises(InputError, match="with other settings; choose another --out"):
        sanitise(poisoned, tmp_path / "out", SanitiseConfig(rounds=5))
    with pytest.raises(InputError, match="is not empty"):
        sanitise(poisoned, poisoned.root)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="cannot be written"):
        sanitise(poisoned, tmp_path / "file" / "out")
    write_image(poisoned.root / "train" / "n09999999" / "a.png", 1)
    with pytest.raises(InputError, match="n09999999 is no class of target toy"):
        sanitise(poisoned, tmp_path / "new")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds is 0"),
        ({"rounds": 3, "flips": 3}, "flips is 3; it must be from 0 to rounds - 1 = 2"),
        ({"outlier": 0.0}, "outlier and batch_size must be positive"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SanitiseConfig(**settings)  # type: ignore[arg-type]
