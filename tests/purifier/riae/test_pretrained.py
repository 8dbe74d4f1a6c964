import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from impure.manifests.base.errors import InputError
from impure.purifier.riae.model import RIAE
from tests.common import small_run

Make = Callable[[str], RIAE]


@pytest.fixture
def run(tmp_path: Path, riae: Make) -> Path:
    return small_run(tmp_path, riae("both"))


def change(run: Path, **riae: Any) -> None:
    """Let the config say something else."""
    config = json.loads((run / "config.json").read_text())
    config["riae"].update(riae)
    (run / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["", "model.safetensors"])
def test_round_trip(run: Path, riae: Make, name: str) -> None:
    loaded, model = RIAE.from_pretrained(run / name), riae("both")
    assert loaded.config == model.config and not loaded.training
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded.purify(images, seed=3), RIAE.from_pretrained(run).purify(images, seed=3))
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(model.parameters(), loaded.parameters(), strict=True)
    )


def test_missing_and_unexpected_weights_are_named(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    weights["extra"] = weights.pop("decoder_pred.bias")
    save_file(weights, run / "model.safetensors")
    with pytest.raises(InputError, match=r"1 missing: decoder_pred\.bias; 1 unexpected: extra"):
        RIAE.from_pretrained(run)


def test_other_architecture(run: Path) -> None:
    change(run, decoder_dim=12)
    with pytest.raises(
        InputError, match=r"not of this architecture .*of another shape: decoder.* \(8,\), not \(12,\)"
    ):
        RIAE.from_pretrained(run)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("model.safetensors", b"broken", "not a readable safetensors"),
        ("config.json", b"{", "not a readable JSON"),
        ("config.json", b"{}", "no 'riae' object"),
        ("config.json", b'{"riae": {"depth": 3}}', "unknown key 'depth'"),
    ],
)
def test_damaged_files(run: Path, name: str, content: bytes, word: str) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(InputError, match=word):
        RIAE.from_pretrained(run)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder_dim": 1 << 20}, "encoder_dim is 1048576; a number up to 4096"),
        ({"decoder_depth": 10**9}, "decoder_depth is 1000000000; a number up to 64"),
        ({"grid": 257}, "grid is 257"),
        ({"patch": 10**400}, "patch is 1000000.*; a number up to 256"),
        ({"patch": 4.5}, r"patch is 4\.5"),
        ({"patch": True}, "patch is True"),
        ({"patch": "4"}, "not supported"),
        ({"patch": None}, "not supported"),
        ({"position_period": 10**400}, "position_period is 1000000"),
        ({"fusion": 0}, "not iterable"),
        ({"fusion": ""}, "fusion is ''; it must be a list"),
        ({"fusion": [0.0]}, r"fusion is \(0\.0,\); it must be a list"),
        ({"fusion": [0] * 10**5}, "names a block twice"),
        ({"fusion": [[0]]}, "not supported"),
        ({"grid": 256, "encoder_dim": 4096}, "grid 256 makes position tables of 268959744 numbers"),
        ({"mask": ["both"]}, "mask .* is unknown"),
        (
            {"encoder_dim": 4096, "decoder_dim": 4096, "encoder_depth": 64, "decoder_depth": 64},
            "missing: blocks",
        ),
    ],
)
def test_absurd_configs_are_refused_before_memory_is_taken(
    run: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(
        "impure.purifier.riae.pretrained.read_weights", lambda path: pytest.fail("the weights were read")
    )
    change(run, **changed)
    with pytest.raises(InputError, match=message):
        RIAE.from_pretrained(run)


def test_weights_that_are_no_numbers(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    save_file({**weights, "cls_token": weights["cls_token"].int()}, run / "model.safetensors")
    with pytest.raises(InputError, match="weights must be F64, F32.*cls_token is I32"):
        RIAE.from_pretrained(run)
    weights["decoder_pred.bias"][3] = torch.nan
    save_file(weights, run / "model.safetensors")
    with pytest.raises(
        InputError, match=r"refused, 1 tensors hold NaN or infinity, the first is decoder_pred\.bias"
    ):
        RIAE.from_pretrained(run)


def test_half_precision_is_read(run: Path) -> None:
    weights = {name: value.bfloat16() for name, value in load_file(run / "model.safetensors").items()}
    save_file(weights, run / "model.safetensors")
    assert RIAE.from_pretrained(run).decoder_pred.weight.dtype == torch.float32


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint there"):
        RIAE.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="no checkpoint there"):
        RIAE.from_pretrained(tmp_path / "missing")
