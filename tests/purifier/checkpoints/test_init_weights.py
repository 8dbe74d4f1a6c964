"""Weights to begin with: MAE, the release, runs of ours; and strangers' files, from which no code is run."""

import argparse
import os
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from impure.manifests.base.errors import InputError
from impure.purifier.checkpoints.foreign import read_tensors
from impure.purifier.checkpoints.init_weights import initialise, license_of
from impure.purifier.checkpoints.release import from_release
from impure.purifier.riae.model import RIAE
from tests.common import small_run
from tests.purifier.checkpoints.test_release import CONFIG, release

Make = Callable[[str], RIAE]


class Call:
    """Pickles as a call."""

    def __init__(self, called: Callable[..., object], *given: object) -> None:
        self.called, self.given = called, given

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.called, self.given


SCALAR = np.float64(0).__reduce__()[0]  # what NumPy rebuilds its numbers with


def trained(path: Path, weights: dict[str, Tensor], rate: object, protocol: int = 2) -> Path:
    """A file as a training script with learning rates of some kind leaves it."""
    content = {
        "model": weights,
        "args": argparse.Namespace(lr=rate, blr=rate, img_mask="noise", feature_mask="mask", batch_size=64),
        "optimizer": {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": rate, "params": [0]}]},
        "epoch": 3,
        "scaler": {"scale": 65536.0, "growth_factor": 2.0, "_growth_tracker": 7},
    }
    torch.save(content, path, pickle_protocol=protocol)
    return path


def as_numpy_1(path: Path) -> None:
    """Give a file the names that NumPy 1 writes."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name, content.replace(b"numpy._core.", b"numpy.core."))


@pytest.mark.parametrize("number", [np.float64(1e-4), np.float32(1e-4), np.int64(3), np.bool_(True)])
@pytest.mark.parametrize("numpy", [1, 2])
def test_numpys_numbers_are_passed_over(tmp_path: Path, number: object, numpy: int) -> None:
    _, theirs = release(tmp_path)
    path = trained(tmp_path / "release.pth", theirs.state_dict(), number)
    if numpy == 1:
        as_numpy_1(path)
    name = b"numpy._core.multiarray" if numpy == 2 else b"numpy.core.multiarray"
    assert path.read_bytes().count(name) == 1
    riae = from_release(path)
    assert riae.config.mask == "image-noise"
    assert torch.equal(riae.norm.weight, theirs.norm.weight)
    assert initialise(fresh("image-noise"), path).origin == "release"


@pytest.mark.parametrize("given", [("no dtype",), (np.dtype("O"), b"more"), ()])
def test_numpys_reading_is_not_called(tmp_path: Path, given: tuple[object, ...]) -> None:
    """These arguments are ones that NumPy would not take, or unpickle by itself."""
    _, theirs = release(tmp_path)
    path = trained(tmp_path / "release.pth", theirs.state_dict(), Call(SCALAR, *given))
    args = read_tensors(path)[1]
    assert type(args.lr).__name__ == "_Ignored" and not hasattr(args.lr, "__dict__")
    with pytest.raises(InputError, match="more than plain tensors"):
        from_release(trained(path, {"norm.bias": Call(SCALAR, *given)}, 1e-4))


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_other_protocols_are_not_read(tmp_path: Path, protocol: int) -> None:
    """PyTorch's safe reader knows protocol 2, that of every `torch.save` that is not told another."""
    _, theirs = release(tmp_path)
    path = trained(tmp_path / "release.pth", theirs.state_dict(), np.float64(1e-4), protocol)
    with pytest.raises(
        InputError, match=r"not a readable checkpoint \(Unsupported operand \d+\); .*store its"
    ):
        from_release(path)


def hostile(folder: Path) -> dict[str, Any]:
    """Values that do something, or are of a kind that could, when they are unpickled."""
    leave = Call(os.system, "touch exploded")
    np.save(folder / "held.npy", np.array([leave], dtype=object), allow_pickle=True)
    torch.save(leave, folder / "held.pth")
    return {
        "os.system": leave,
        "eval": Call(eval, "open('exploded', 'w')"),
        "numpy.load": Call(np.load, "held.npy", None, True),
        "torch.load": Call(torch.load, "held.pth"),
        "array": np.ones(2),
        "object array": np.array([leave], dtype=object),
        "inside a number": Call(SCALAR, leave),
        "getattr": Call(getattr, SCALAR, "__globals__"),
    }


@pytest.mark.parametrize("place", ["lr", "model"])
def test_no_code_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    _, theirs = release(tmp_path)
    for name, value in hostile(tmp_path).items():
        weights = {"norm.bias": value} if place == "model" else theirs.state_dict()
        path = trained(tmp_path / "bad.pth", weights, value if place == "lr" else 1e-4)
        with pytest.raises(InputError, match=r"^[^\n]*not a readable checkpoint \([^\n]*\Z"):
            from_release(path)
        assert not (tmp_path / "exploded").exists(), name


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 broken"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(InputError, match="not a readable checkpoint"):
        from_release(tmp_path / "bad.pth")


def mae(tmp_path: Path, *, decoder: bool = True, side: int = 4, name: str = "mae.pth") -> Path:
    """An MAE ViT as its authors publish it; its positions are those of the images it was trained on."""
    _, theirs = release(tmp_path, "occlusion", side=side)
    added = ("proj_", "decoder_embed_norm", "decoder_head_embed", "decoder_rb1")
    weights = {key: value for key, value in theirs.state_dict().items() if not key.startswith(added)}
    if not decoder:
        weights = {key: value for key, value in weights.items() if "decoder" not in key and "mask" not in key}
    if name.endswith(".safetensors"):
        save_file(weights, tmp_path / name)
    else:
        torch.save({"model": weights}, tmp_path / name)
    return tmp_path / name


def fresh(mask: str = "both", **changed: Any) -> RIAE:
    return RIAE(replace(CONFIG, mask=mask, **changed))


def test_begin_from_mae_in_half_precision(tmp_path: Path) -> None:
    """Its position tables are rounded, and the same."""
    path = mae(tmp_path)
    halves = {key: value.half() for key, value in torch.load(path)["model"].items()}
    torch.save({"model": halves}, path)
    riae = fresh()
    done = initialise(riae, path)
    assert done.origin == "mae"
    state = riae.state_dict()
    assert all(torch.equal(state[key], halves[key].float()) for key in done.loaded)


@pytest.mark.parametrize("name", ["mae.pth", "mae.safetensors"])
@torch.no_grad()
def test_begin_from_mae(tmp_path: Path, name: str) -> None:
    """Encoder and decoder are those that the release's conversion makes of the same weights."""
    riae, before = fresh("occlusion"), fresh("occlusion")
    before.load_state_dict(riae.state_dict())
    done = initialise(riae, mae(tmp_path, name=name))
    assert done.origin == "mae" and done.license == "cc-by-nc-4.0" and done.file == name
    heads = {each.split(".")[0] for each in done.random}
    assert heads == {"proj_layers", "proj_weights", "decoder_head_embed", "decoder_embed_norm", "decoder_rb1"}
    assert {*done.loaded, *done.random} == set(riae.state_dict())
    whole = from_release(release(tmp_path, "occlusion")[0]).state_dict()
    for key, value in riae.state_dict().items():
        assert torch.equal(value, whole[key] if key in done.loaded else before.state_dict()[key]), key


def test_what_is_not_finite_is_no_beginning(tmp_path: Path) -> None:
    path, riae = mae(tmp_path), fresh()
    before = riae.norm.bias.clone()
    content = torch.load(path, weights_only=True)
    content["model"]["norm.bias"][0] = torch.nan
    torch.save(content, path)
    with pytest.raises(InputError, match=r"1 tensors hold NaN or infinity, the first is norm\.bias"):
        initialise(riae, path)
    assert torch.equal(riae.norm.bias, before)


def test_begin_from_an_encoder_alone(tmp_path: Path) -> None:
    done = initialise(fresh(), mae(tmp_path, decoder=False))
    assert {each.split(".")[0] for each in done.loaded} == {"patch_embed", "cls_token", "blocks", "norm"}


def test_a_decoder_of_another_kind_keeps_its_start(tmp_path: Path) -> None:
    done = initialise(fresh(decoder="cross"), mae(tmp_path))
    assert not any(name.startswith("decoder_blocks.") for name in done.loaded)
    assert "decoder_norm.weight" in done.loaded and "decoder_blocks.0.attn.q.weight" in done.random


def test_begin_from_the_release(tmp_path: Path) -> None:
    riae = fresh("image-noise")
    done = initialise(riae, release(tmp_path)[0])
    assert done.origin == "release" and done.license == "other" and done.random == ()
    whole = from_release(release(tmp_path)[0], "both").state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in riae.state_dict().items())


@pytest.mark.parametrize("place", ["", "model.safetensors"])
def test_begin_from_our_own_with_another_masking_mode(tmp_path: Path, place: str) -> None:
    source, riae = fresh("both"), fresh("occlusion", grid=10)
    init = asdict(initialise(source, mae(tmp_path)))
    small_run(tmp_path / "run", source, init=init)
    done = initialise(riae, tmp_path / "run" / place)
    assert done.origin == "impure" and done.random == ("mask_token",) and done.file == "model.safetensors"
    assert done.license == "cc-by-nc-4.0"  # what it began from still binds
    assert torch.equal(riae.patch_embed.proj.weight, source.patch_embed.proj.weight)


def test_other_architectures_are_refused_and_left_alone(tmp_path: Path, riae: Make) -> None:
    other = fresh(encoder_depth=5, decoder_heads=4)
    before = other.patch_embed.proj.weight.clone()
    with pytest.raises(
        InputError, match=r"another architecture \(encoder_depth 4, here 5; decoder_heads 2, here 4"
    ):
        initialise(other, mae(tmp_path))
    assert torch.equal(other.patch_embed.proj.weight, before)
    small_run(tmp_path / "run", riae("both"))
    with pytest.raises(InputError, match=r"another architecture \(encoder_dim 16, here 128"):
        initialise(fresh(), tmp_path / "run")


def test_files_of_something_else(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="has no tensor patch_embed.*taken are RIAE's checkpoints, MAE's"):
        initialise(fresh(), tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "other.pth")
    with pytest.raises(InputError, match="holds no weights"):
        initialise(fresh(), tmp_path / "other.pth")
    with pytest.raises(InputError, match="no checkpoint there"):
        initialise(fresh(), tmp_path / "missing")


def test_unknown_licences_are_no_licences() -> None:
    assert license_of({}) == license_of({"init": {}}) == "apache-2.0"
    for init, named in (({"license": "mine"}, "'mine'"), ({"origin": "mae"}, "None"), (["x"], r"\['x'\]")):
        with pytest.raises(InputError, match=f"init.license {named} is none of apache"):
            license_of({"init": init})
