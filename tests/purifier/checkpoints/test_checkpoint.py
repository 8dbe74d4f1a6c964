import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from impure.manifests.base.errors import InputError, WriteError
from impure.purifier.checkpoints import checkpoint
from impure.purifier.checkpoints.checkpoint import load_riae, load_state, save_checkpoint, save_weights
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
    loaded, model = load_riae(run / name), riae("both")
    assert loaded.config == model.config and not loaded.training
    images = torch.rand(1, 3, 16, 16)
    assert torch.equal(loaded.purify(images, seed=3), RIAE.from_pretrained(run).purify(images, seed=3))
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(model.parameters(), loaded.parameters(), strict=True)
    )


def test_users_get_other_weights_than_the_training(run: Path, riae: Make) -> None:
    training = riae("both").state_dict()
    averaged = {name: value / 2 for name, value in training.items()}
    save_checkpoint(run, averaged, {"model": training, "epoch": 3})
    state = load_state(run)
    assert state["epoch"] == 3 and torch.equal(
        state["model"]["decoder_pred.weight"], training["decoder_pred.weight"]
    )
    assert torch.equal(load_riae(run).decoder_pred.weight, averaged["decoder_pred.weight"])


def test_weights_alone_in_a_folder_of_their_own(run: Path, riae: Make) -> None:
    model = riae("occlusion")
    save_weights(run / "best", model.state_dict(), {"riae": asdict(model.config), "epoch": 4})
    assert {each.name for each in (run / "best").iterdir()} == {"config.json", "model.safetensors"}
    assert torch.equal(load_riae(run / "best").mask_token, model.mask_token)
    assert load_riae(run).config.mask == "both"


def test_a_full_disk_leaves_what_was_there(run: Path, riae: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(WriteError, match="cannot be written .*make room"):
        save_weights(run, riae("both").state_dict(), {"riae": asdict(riae("both").config)})
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_missing_and_unexpected_weights_are_named(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    weights["extra"] = weights.pop("decoder_pred.bias")
    save_file(weights, run / "model.safetensors")
    with pytest.raises(InputError, match=r"1 missing: decoder_pred\.bias; 1 unexpected: extra"):
        load_riae(run)


def test_other_architecture(run: Path) -> None:
    change(run, decoder_dim=12)
    with pytest.raises(
        InputError, match=r"not of this architecture .*of another shape: decoder.* \(8,\), not \(12,\)"
    ):
        load_riae(run)


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
        load_riae(run)


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
    monkeypatch.setattr(checkpoint, "load_file", lambda path: pytest.fail("the weights were read"))
    change(run, **changed)
    with pytest.raises(InputError, match=message):
        load_riae(run)


def test_weights_that_are_no_numbers(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    save_file({**weights, "cls_token": weights["cls_token"].int()}, run / "model.safetensors")
    with pytest.raises(InputError, match="weights must be F64, F32.*cls_token I32"):
        load_riae(run)
    weights["decoder_pred.bias"][3] = torch.nan
    save_file(weights, run / "model.safetensors")
    with pytest.raises(
        InputError, match=r"refused, 1 tensors hold NaN or infinity, the first is decoder_pred\.bias"
    ):
        load_riae(run)


def test_half_precision_is_read(run: Path) -> None:
    weights = {name: value.bfloat16() for name, value in load_file(run / "model.safetensors").items()}
    save_file(weights, run / "model.safetensors")
    assert load_riae(run).decoder_pred.weight.dtype == torch.float32


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint there"):
        load_riae(tmp_path)
    with pytest.raises(InputError, match="no checkpoint there"):
        load_riae(tmp_path / "missing")
