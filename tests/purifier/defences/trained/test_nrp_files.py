"""Purifiers as NRP's authors publish them are data: read strictly, without running code, bounded."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from impure.manifests.base.errors import InputError
from impure.purifier.defences.trained.nrp import NRP, read_purifier


def conv(width: int, channels: int) -> dict[str, Tensor]:
    return {"weight": torch.randn(width, channels, 3, 3) / 10, "bias": torch.zeros(width)}


def published(kind: str) -> dict[str, Tensor]:
    """Weights with the names of the authors' `NRP.pth` or `NRP_resG.pth`, of a small network."""
    convs = {"conv_first": conv(4, 3)}
    for block in range(2):
        if kind == "residual":
            convs |= {f"recon_trunk.{block}.conv{number}": conv(4, 4) for number in (1, 2)}
        for dense in (1, 2, 3) if kind == "rrdb" else ():
            name = f"RRDB_trunk.{block}.RDB{dense}.conv"
            convs |= {f"{name}{i}": conv(4 if i == 5 else 2, 2 + 2 * i) for i in range(1, 6)}
    convs["trunk_conv" if kind == "rrdb" else "conv_last"] = conv(3, 4)
    return {f"{name}.{part}": tensor for name, pair in convs.items() for part, tensor in pair.items()}


@pytest.mark.parametrize("kind", ["rrdb", "residual"])
def test_a_published_file_becomes_a_defence(kind: str, tmp_path: Path) -> None:
    torch.save(weights := published(kind), tmp_path / "NRP.pth")
    defence = NRP.from_weights(str(tmp_path / "NRP.pth"))
    network = defence.network
    assert (network.kind, network.width, network.blocks) == (kind, 4, 2)
    assert all(torch.equal(network.purifier.state_dict()[name], value) for name, value in weights.items())
    assert defence(torch.rand(1, 3, 5, 6)).shape == (1, 3, 5, 6)
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in weights.items()}}, tmp_path / "w.pth"
    )
    assert read_purifier(tmp_path / "w.pth").blocks == 2


class Code:
    """Would run a command where it is unpickled."""

    def __reduce__(self) -> Any:
        return os.system, ("touch hostile",)


def spoilt(weights: dict[str, Tensor], how: str) -> Any:
    if how == "nan":
        return {**weights, "conv_first.bias": torch.full((4,), torch.nan)}
    if how == "another network":
        return nn.Linear(3, 3).state_dict()
    if how == "missing":
        return {name: tensor for name, tensor in weights.items() if "conv5" not in name}
    if how == "enormous":
        return {**weights, "conv_first.weight": torch.zeros(1).expand(100_000, 3, 3, 3)}
    if how == "many blocks":
        return weights | {f"RRDB_trunk.{number}.RDB1.conv1.bias": torch.zeros(2) for number in range(90)}
    if how == "no dimension":
        return {**weights, "RRDB_trunk.0.RDB1.conv1.weight": torch.tensor(1.0)}
    return {"conv_first.weight": Code()}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("nan", "hold NaN or infinity"),
        ("another network", "no purifier of NRP"),
        ("missing", "12 missing"),
        ("enormous", "width is 100000"),
        ("many blocks", "blocks is 90"),
        ("no dimension", "growth is 0"),
        ("code", "not a readable weights file"),
    ],
)
def test_hostile_files_are_refused_in_one_line(
    how: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "NRP.pth"
    torch.save(spoilt(published("rrdb"), how), path)
    with pytest.raises(InputError, match=message) as refused:
        read_purifier(path)
    assert "\n" not in str(refused.value) and str(path) in str(refused.value)
    assert not (tmp_path / "hostile").exists()


def test_a_missing_or_torn_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such weights file"):
        read_purifier(tmp_path / "NRP.pth")
    (tmp_path / "NRP.pth").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(InputError, match="not a readable weights file"):
        read_purifier(tmp_path / "NRP.pth")
