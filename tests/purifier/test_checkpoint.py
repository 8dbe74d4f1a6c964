import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from impure.manifests.errors import InputError
from impure.purifier.checkpoint import load_riae, riae_config, save_checkpoint, save_config
from impure.purifier.riae import RIAE

Make = Callable[[str], RIAE]


@pytest.fixture
def run(tmp_path: Path, riae: Make) -> Path:
    model = riae("both")
    save_config(tmp_path, {"riae": riae_config(model)})
    save_checkpoint(tmp_path, model, {})
    return tmp_path


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


def test_missing_and_unexpected_weights_are_named(run: Path) -> None:
    weights = load_file(run / "model.safetensors")
    weights["extra"] = weights.pop("pixels.bias")
    save_file(weights, run / "model.safetensors")
    with pytest.raises(InputError, match=r"1 missing: pixels\.bias; 1 unexpected: extra"):
        load_riae(run)


def test_other_architecture(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["riae"]["decoder_dim"] = 12
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"not of this architecture .*of another shape: bridge"):
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


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint there"):
        load_riae(tmp_path)
    with pytest.raises(InputError, match="no checkpoint there"):
        load_riae(tmp_path / "missing")
