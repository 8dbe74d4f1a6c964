"""The paper's three targets, their weights from three files, go the whole way in one collection."""

import json
import shutil

import pytest
import timm
import torchvision
from safetensors.torch import save_model
from torch import nn

from tests.common import PLAIN

NETWORKS = {
    "resnet101": lambda: torchvision.models.resnet101(),
    "inception_v3": lambda: torchvision.models.inception_v3(init_weights=False),
    "inception_resnet_v2": lambda: timm.create_model("inception_resnet_v2.tf_in1k"),
}


def says_tench(network):
    """Random weights whose activations stay small, so that the bias of the first class decides."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.5)
    head = network.classif if hasattr(network, "classif") else network.fc
    head.bias.data[0] = 1.0
    return network


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file for each target."""
    folder = tmp_path_factory.mktemp("weights")
    files = {name: folder / f"{name}.safetensors" for name in NETWORKS}
    for name, build in NETWORKS.items():
        save_model(says_tench(build()), files[name])
    return files


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_three_targets_go_the_whole_way_in_one_collection(weights, imagenet, run, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(imagenet / split / "n01440764", tmp_path / "images" / split / "n01440764")
    root = tmp_path / "root"
    for name, file in weights.items():
        fine(run(
            "data", "generate", "--images", tmp_path / "images", "--target", name, "--weights", file,
            "--attack", "fgsm", "--per-class", 1, "--batch-size", 1, "--threads", 1, "--out", root,
        ))  # fmt: skip
    named = [word for name, file in weights.items() for word in ("--weights", f"{name}={file}")]
    fine(
        run("train", "--shards", root, *PLAIN, "--out", tmp_path / "run", "--validate", "validation", *named)
    )
    rows = (tmp_path / "run" / "validation.csv").read_text()
    assert all(name in rows for name in NETWORKS)
    table = fine(run(
        "evaluate", "--shards", root, "--checkpoint", tmp_path / "run", "--defence", "riae",
        "--threads", 1, "--json", *named,
    ))  # fmt: skip
    clean = {row["target"] for row in json.loads(table.stdout)["rows"] if row["defence"] == "riae"}
    assert clean == set(NETWORKS)
    replayed = fine(run("data", "verify", root, "--level", "replay", "--split", "test", *named))
    assert "3 shards checked at level replay: nothing wrong" in replayed.stdout


def fine(result):
    assert result.exit_code == 0, result.output
    return result
