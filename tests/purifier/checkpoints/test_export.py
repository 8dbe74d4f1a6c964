import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from impure.manifests.base.errors import InputError, WriteError
from impure.purifier.checkpoints import export as exporting
from impure.purifier.checkpoints.export import Description, Exported, export, read_description
from impure.purifier.checkpoints.export_formats import FORMATS, KEY
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig, preset
from tests.purifier.conftest import SMALL

MASKS = ("occlusion", "image-noise", "feature-noise", "both")
NOISES = {
    "occlusion": [],
    "image-noise": ["image_noise"],
    "feature-noise": ["feature_noise"],
    "both": ["image_noise", "feature_noise"],
}
SIZE = {"height": 20, "width": 27}  # of patches of 4: 24 x 32 with padding

Make = Callable[..., RIAE]


@pytest.fixture
def make() -> Make:
    def network(mask: str = "both", decoder: str = "copies", **sizes: object) -> RIAE:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            config = RIAEConfig(**{**SMALL, "encoder_depth": 2, **sizes})  # type: ignore[arg-type]
            return RIAE(replace(config, mask=mask, decoder=decoder))  # type: ignore[arg-type]

    return network


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture
def exported(make: Make, shared: Path) -> Callable[[str], Exported]:
    """The default network, exported once for all tests; do not change the file."""

    def find(ending: str) -> Exported:
        path = shared / ending / f"purifier{ending}"
        if path.exists():
            return Exported(path=path, description=read_description(path), difference=0.0)
        return export(make(), path, **SIZE, collections=("0123",))

    return find


def pictures(batch: int, description: Description) -> torch.Tensor:
    generator = torch.Generator().manual_seed(9)
    return torch.rand(batch, 3, description.height, description.width, generator=generator)


def largest_difference(path: Path, riae: RIAE) -> float:
    """File against `purify`, for batches that the file was not made from."""
    description, run = read_description(path), FORMATS[path.suffix].open(path)
    found = []
    for batch in (1, 2, 5):
        images = pictures(batch, description)
        with torch.no_grad():
            purified = run({"images": images, **description.draw_noise(batch, seed=7)})
            wanted = riae.purify(images, seed=7)
        assert purified.shape == wanted.shape == images.shape
        assert wanted.std() > 0.01
        found.append(float((purified - wanted).abs().max()))
    return max(found)


ALL = [(ending, mask, decoder) for ending in FORMATS for mask in MASKS for decoder in ("copies", "cross")]
QUICK = [(".onnx", "occlusion", "cross")]


@pytest.mark.parametrize(
    ("ending", "mask", "decoder"),
    [pytest.param(*each, marks=() if each in QUICK else pytest.mark.slow) for each in ALL],
)
def test_a_file_purifies_as_the_network_does(
    make: Make, ending: str, mask: str, decoder: str, tmp_path: Path
) -> None:
    riae, path = make(mask, decoder, decoder_depth=1), tmp_path / f"purifier{ending}"
    found = export(riae, path, **SIZE)
    assert found.difference < 1e-5
    assert list(found.description.inputs) == ["images", *NOISES[mask]]
    assert largest_difference(path, riae) < 1e-5


@pytest.mark.parametrize("ending", FORMATS)
def test_an_export_is_one_file_that_describes_itself(
    make: Make, exported: Callable[[str], Exported], ending: str
) -> None:
    found, riae = exported(ending), make()
    assert [each.name for each in found.path.parent.iterdir()] == [found.path.name]
    described = read_description(found.path)
    assert described == Description(riae=riae.config, **SIZE, collections=("0123",))
    assert described.inputs == {
        "images": (3, 20, 27),
        "image_noise": (4, 12, 48),
        "feature_noise": (4, 12, 8),
    }
    assert largest_difference(found.path, riae) < 1e-5


ONNX_USER = """
import sys
import numpy as np
import onnxruntime

folder, model = sys.argv[1:]
given = dict(np.load(f"{folder}/inputs.npz"))
session = onnxruntime.InferenceSession(model)
inputs = {"images": given["images"]}
for noise in session.get_inputs()[1:]:
    assert noise.shape[1:] == list(given[noise.name].shape[1:]), noise.shape
    assert noise.shape[0] == "batch", noise.shape
    inputs[noise.name] = given[noise.name]
(purified,) = session.run(["purified"], inputs)
assert session.get_modelmeta().custom_metadata_map["impure.json"].startswith("{")
assert not {"torch", "impure"} & sys.modules.keys()
np.save(f"{folder}/purified.npy", purified)
"""

TORCH_USER = """
import sys
import numpy as np
import torch

folder, model = sys.argv[1:]
given = {name: torch.from_numpy(each) for name, each in np.load(f"{folder}/inputs.npz").items()}
purify = torch.export.load(model).module()
with torch.no_grad():
    purified = purify(
        given["images"], image_noise=given["image_noise"], feature_noise=given["feature_noise"]
    )
assert "impure" not in sys.modules
np.save(f"{folder}/purified.npy", purified.numpy())
"""


@pytest.mark.parametrize(("ending", "program"), [(".onnx", ONNX_USER), (".pt2", TORCH_USER)])
def test_a_file_runs_without_impure(
    make: Make, exported: Callable[[str], Exported], ending: str, program: str, tmp_path: Path
) -> None:
    found = exported(ending)
    images = pictures(4, found.description)
    inputs = {"images": images, **found.description.draw_noise(4, seed=3)}
    np.savez(tmp_path / "inputs.npz", **{name: each.numpy() for name, each in inputs.items()})
    command = [sys.executable, "-c", program, str(tmp_path), str(found.path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        wanted = make().purify(images, seed=3)
    assert np.abs(np.load(tmp_path / "purified.npy") - wanted.numpy()).max() < 1e-5


@pytest.mark.parametrize("mask", MASKS)
def test_the_noise_is_what_purify_draws(make: Make, mask: str) -> None:
    """The module that is exported, before any export: bit by bit the same."""
    riae = make(mask)
    description = Description(riae=riae.config, **SIZE)
    images = pictures(2, description)
    with torch.no_grad():
        purified = exporting.FixedSize(riae, description)(images, **description.draw_noise(2, seed=5))
        assert torch.equal(purified, riae.purify(images, seed=5))


def test_an_image_may_be_larger_than_the_position_table(make: Make, tmp_path: Path) -> None:
    riae = make(decoder="cross", decoder_depth=1)  # a table of 6 x 6 patches, an image of 10 x 8
    found = export(riae, tmp_path / "purifier.pt2", height=40, width=30)
    assert found.difference < 1e-5


def test_the_network_is_left_as_it_is(make: Make, tmp_path: Path) -> None:
    riae = make("occlusion", decoder_depth=1).to(torch.bfloat16).train()
    export(riae, tmp_path / "purifier.pt2", **SIZE)
    assert riae.training and riae.decoder_pred.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["purifier", "purifier.pth", "purifier.ONNX"])
def test_other_endings_are_refused(make: Make, name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ending in \.pt2 or \.onnx"):
        export(make(), tmp_path / name)
    with pytest.raises(InputError, match=r"ending in \.pt2 or \.onnx"):
        read_description(tmp_path / name)


@pytest.mark.parametrize("side", [0, -3, 5000, True, 8.0])
def test_impossible_sides_are_refused(make: Make, side: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="height is .* 1 to 4096 pixels"):
        export(make(), tmp_path / "purifier.pt2", height=side)


@pytest.mark.parametrize("library", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_library_is_named(
    make: Make, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"need {library}: pip install 'impure\[export\]'"):
        export(make(), tmp_path / "purifier.onnx")


def test_a_network_too_large_for_onnx_is_refused(tmp_path: Path) -> None:
    with torch.device("meta"):
        riae = RIAE(RIAEConfig(encoder_dim=4096, encoder_heads=8))
    with pytest.raises(InputError, match=r"GB of weights .* take \.pt2"):
        export(riae, tmp_path / "purifier.onnx")


@pytest.mark.parametrize("wrong", [2e-4, float("nan")])
def test_a_file_that_computes_something_else_does_not_appear(
    make: Make, wrong: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "purifier.pt2"
    path.write_text("an older one")
    riae = make("occlusion")
    monkeypatch.setattr(exporting, "_trace", lambda *_: None)
    off = FORMATS[".pt2"]._replace(
        write=lambda _, path, __: path.write_text("wrong"),  # type: ignore[arg-type, func-returns-value]
        open=lambda _: lambda inputs: riae.purify(inputs["images"]) + wrong,
    )
    monkeypatch.setitem(FORMATS, ".pt2", off)
    with pytest.raises(InputError, match="not written, its output differs"):
        export(riae, path, **SIZE)
    assert path.read_text() == "an older one" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_named(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"purifier\.pt2: cannot be written"):
        export(make("occlusion", decoder_depth=1), tmp_path / "file" / "purifier.pt2", **SIZE)


@pytest.mark.parametrize("ending", FORMATS)
def test_damaged_files_describe_nothing(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"purifier{ending}"
    with pytest.raises(InputError, match="not a readable"):
        read_description(path)
    path.write_bytes(b"PK\x03\x04 no such thing")
    with pytest.raises(InputError, match="not a readable"):
        read_description(path)


def described(path: Path, text: str | None) -> None:
    """An ONNX file without a network."""
    model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
    if text is not None:
        onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (None, "it is no exported purifier"),
        ({"riae": None}, "it is no exported purifier"),
        ({"riae": {"grid": 10**9}}, "grid is 1000000000"),
        ({"height": 10**9}, "height is 1000000000"),
        ({"collections": "0123"}, "collections is '0123'"),
        ({"more": 1}, "unknown key 'more'"),
    ],
)
def test_strange_descriptions_are_refused(
    change: dict[str, object] | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "purifier.onnx"
    plain = {"riae": {"patch": 4}, "height": 20, "width": 27, "collections": []}
    described(path, json.dumps(plain))
    assert read_description(path).width == 27
    described(path, None if change is None else json.dumps(plain | change))
    with pytest.raises(InputError, match=message):
        read_description(path)


@pytest.mark.slow
@pytest.mark.parametrize("ending", FORMATS)
def test_the_papers_network_can_be_exported(ending: str, tmp_path: Path) -> None:
    """115.8 M parameters, 224 pixels; a minute and 3 GB of memory on one core."""
    torch.manual_seed(0)
    found = export(RIAE(preset("base")), tmp_path / f"purifier{ending}")
    assert found.difference < 1e-5
    assert found.description.inputs["image_noise"] == (4, 49, 768)
