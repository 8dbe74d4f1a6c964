"""The public API: what `import impure` offers, and how it takes wrong input."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import impure
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.builtin.drawing import CLASSES, render
from impure.pipeline.targets.target import Target
from impure.purifier.riae.riae_config import preset

INIT = Path(str(impure.__file__))


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Four drawn pictures, uint8 (4, 3, 64, 64)."""
    drawn = [torch.from_numpy(render("val", name, 0, 64)) for name in CLASSES[:4]]
    return torch.stack(drawn).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def labels() -> Tensor:
    return torch.arange(4)


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(900, 10)).eval()


def test_importing_impure_imports_nothing_else() -> None:
    code = "import sys, impure; print(*(name for name in sys.modules if name.partition('.')[0] in "
    code += "('impure', 'torch', 'numpy', 'pyarrow', 'click')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["impure"]


def test_every_public_name_is_there() -> None:
    assert sorted(impure.__all__) == sorted(impure._MODULES)
    assert set(impure.__all__) <= set(dir(impure))
    assert all(getattr(impure, name).__doc__ for name in impure.__all__)


def test_type_checkers_see_the_same_modules() -> None:
    block = next(node for node in ast.parse(INIT.read_text()).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name: node.module for node in imports for alias in node.names}
    assert seen == impure._MODULES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        impure.nonsense  # noqa: B018


@pytest.mark.parametrize("name", ["fgsm", "pgd", "square"])
def test_float_and_8_bit_images_are_attacked_alike(
    classifier: nn.Module, pixels: Tensor, labels: Tensor, name: str
) -> None:
    few = {"queries": 20} if name == "square" else {}
    stored = impure.attack(classifier, pixels, labels, name, eps=8, seed=3, **few)
    images = impure.attack(classifier, pixels.float() / 255, labels, name, eps=8, seed=3, **few)
    assert stored.dtype == torch.uint8 and torch.equal(images, stored.float() / 255)
    distance = (stored.int() - pixels.int()).abs().amax()
    assert 0 < distance <= 8


def test_attack_is_the_pipelines_attack(builtin_target: Target, pixels: Tensor, labels: Tensor) -> None:
    config = AttackConfig(name="fgsm", eps_255=16)
    ids = [str(index) for index in range(4)]  # FGSM is not random
    there = attack_batch(config, builtin_target, pixels, labels, ids, 0).adversarial
    assert torch.equal(impure.attack(builtin_target, pixels, labels, "fgsm"), there)
    assert (builtin_target(there / 255).argmax(1) != labels).any()


def test_an_images_result_depends_on_no_neighbour(
    classifier: nn.Module, pixels: Tensor, labels: Tensor
) -> None:
    network = classifier.double()
    try:
        together = impure.attack(network, pixels, labels, "pgd")
        alone = impure.attack(network, pixels[2:3], labels[2:3], "pgd")
        other = impure.attack(network, pixels, labels, "pgd", seed=1)
    finally:
        classifier.float()
    assert torch.equal(together[2:3], alone) and not torch.equal(together, other)


def test_options_reach_the_attack(classifier: nn.Module, pixels: Tensor, labels: Tensor) -> None:
    weak = impure.attack(classifier, pixels, labels, "pgd", steps=1, alpha_255=1.0, random_start=False)
    assert (weak.int() - pixels.int()).abs().amax() == 1
    steered = impure.attack(classifier, pixels, labels, "fgsm", targeted="least-likely")
    assert not torch.equal(steered, impure.attack(classifier, pixels, labels, "fgsm"))


def _nan(images: Tensor) -> Tensor:
    broken = images.float() / 255
    broken[0, 0, 0, 0] = torch.nan
    return broken


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: {"images": x[0]}, r"\(N, C, H, W\)"),
        (lambda x, y: {"images": x[:0]}, "N >= 1"),
        (lambda x, y: {"images": x.int()}, "floating point .*int32"),
        (lambda x, y: {"images": x.float()}, r"must lie in \[0, 1\].*255"),
        (lambda x, y: {"images": x / 255 - 0.5}, r"must lie in \[0, 1\]"),
        (lambda x, y: {"images": _nan(x)}, r"must lie in \[0, 1\].*nan"),
        (lambda x, y: {"labels": y[:2]}, "labels must be 4 whole numbers"),
        (lambda x, y: {"labels": y.float()}, "labels must be 4 whole numbers"),
        (lambda x, y: {"labels": y + 7}, "classes 0 to 9 .* 7 to 10"),
        (lambda x, y: {"labels": y - 1}, "classes 0 to 9 .* -1 to 2"),
        (lambda x, y: {"model": nn.Identity().eval()}, "must return logits"),
        (lambda x, y: {"name": "nonsense"}, "attack .*nonsense.*pgd"),
        (lambda x, y: {"eps": 8 / 255}, "eps_255 must be a whole number"),
        (lambda x, y: {"stepz": 3}, "stepz.*steps"),
        (lambda x, y: {"precision": "tf32"}, "tf32 needs a CUDA device"),
    ],
)
def test_wrong_input_is_one_clear_error(
    classifier: nn.Module, pixels: Tensor, labels: Tensor, change, message: str
) -> None:
    arguments = {"model": classifier, "images": pixels, "labels": labels, "name": "fgsm"}
    changed = arguments | change(pixels, labels)
    if "stepz" in changed:
        changed["name"] = "pgd"
    with pytest.raises(impure.InputError, match=message) as raised:
        impure.attack(**changed)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [(lambda x: x[0], r"\(N, C, H, W\)"), (lambda x: (255 * x).byte(), "uint8. Divide 8-bit images by 255")],
)
def test_purifiers_refuse_what_is_no_batch_of_floats(classifier: nn.Module, change, message: str) -> None:
    images = change(torch.rand(2, 3, 64, 64))
    purifier = impure.RIAE(preset("tiny"))
    with pytest.raises(impure.InputError, match=message):
        purifier.purify(images)
    with pytest.raises(impure.InputError, match=message):
        impure.DefendedModel(purifier, classifier)(images)


def test_a_collection_opens_by_folder_and_glob(collection_root: Path) -> None:
    shards = impure.open_collection(collection_root, attacks=["fgsm"])
    assert {shard.shard_id.attack for shard in shards} == {"fgsm"}
    again = impure.open_collection(f"{collection_root}/*/fgsm/*/*.tar")
    assert [shard.shard_id for shard in again] == [shard.shard_id for shard in shards]
    pair = impure.PairDataset(shards)[0]
    assert pair.dtype == torch.uint8 and pair.shape == (2, 3, 48, 48)


def test_a_collection_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(impure.InputError, match="no such folder"):
        impure.open_collection(tmp_path / "nothing")
    with pytest.raises(impure.InputError, match="no checkpoint there"):
        impure.load_purifier(tmp_path / "nothing")
