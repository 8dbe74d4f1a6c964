from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from impure.manifests.base.errors import InputError, WriteError
from impure.purifier.checkpoints import checkpoint
from impure.purifier.checkpoints.checkpoint import load_state, save_checkpoint, save_weights
from impure.purifier.riae.model import RIAE
from tests.common import small_run

Make = Callable[[str], RIAE]


@pytest.fixture
def run(tmp_path: Path, riae: Make) -> Path:
    return small_run(tmp_path, riae("both"))


def test_users_get_other_weights_than_the_training(run: Path, riae: Make) -> None:
    training = riae("both").state_dict()
    averaged = {name: value / 2 for name, value in training.items()}
    save_checkpoint(run, averaged, {"model": training, "epoch": 3})
    state = load_state(run)
    assert state["epoch"] == 3 and torch.equal(
        state["model"]["decoder_pred.weight"], training["decoder_pred.weight"]
    )
    assert torch.equal(RIAE.from_pretrained(run).decoder_pred.weight, averaged["decoder_pred.weight"])


def test_weights_alone_in_a_folder_of_their_own(run: Path, riae: Make) -> None:
    model = riae("occlusion")
    save_weights(run / "best", model.state_dict(), {"riae": asdict(model.config), "epoch": 4})
    assert {each.name for each in (run / "best").iterdir()} == {"config.json", "model.safetensors"}
    assert torch.equal(RIAE.from_pretrained(run / "best").mask_token, model.mask_token)
    assert RIAE.from_pretrained(run).config.mask == "both"


def test_a_full_disk_leaves_what_was_there(run: Path, riae: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(WriteError, match="cannot be written .*make room"):
        save_weights(run, riae("both").state_dict(), {"riae": asdict(riae("both").config)})
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_weights_appear_whole_or_not_at_all(run: Path, riae: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}

    def half(path: Path, data: bytes) -> None:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(WriteError, match="cannot be written .*make room"):
        save_checkpoint(run, riae("both").state_dict(), {})
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_damaged_state_is_refused(run: Path) -> None:
    (run / "state.pt").write_bytes((run / "state.pt").read_bytes()[:50])
    with pytest.raises(
        InputError, match=r"state\.pt: not a readable training state \(.*\); delete it to start"
    ):
        load_state(run)
