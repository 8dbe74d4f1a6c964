"""The size in a card reaches networks whose parameters depend on it."""

import json

import pytest
import timm
import torch
import torchvision

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json
from impure.pipeline.targets.load import build_architecture, load_target
from impure.pipeline.targets.target_names import BUILTIN_CARD
from tests.pipeline.targets.test_targets import random_weights


def card(folder, architecture, size, network=None):
    if network is not None:
        random_weights(network, folder / "w.safetensors")
    changed = {"architecture": architecture, "input_size": size, "resize": size, "crop": size}
    (folder / "card.json").write_text(
        json.dumps(read_json(BUILTIN_CARD) | changed | {"weights": "w.safetensors"})
    )
    return str(folder / "card.json")


@pytest.mark.parametrize(
    ("architecture", "size", "name", "shape"),
    [
        ("torchvision:vit_h_14", 518, "encoder.pos_embedding", (1, 1 + 37**2, 1280)),
        ("torchvision:vit_b_32", 224, "encoder.pos_embedding", (1, 1 + 7**2, 768)),
        ("timm:vit_tiny_patch16_224", 224, "pos_embed", (1, 1 + 14**2, 192)),
        ("timm:vit_tiny_patch16_224", 384, "pos_embed", (1, 1 + 24**2, 192)),
        ("timm:mixer_s32_224", 96, "blocks.0.mlp_tokens.fc1.weight", (256, 9)),
    ],
)
def test_position_embeddings_are_of_the_size_that_was_asked_for(architecture, size, name, shape):
    with torch.device("meta"):
        network = build_architecture(architecture, 10, size, "card.json")
    assert tuple(network.state_dict()[name].shape) == shape


def test_a_vit_of_another_size_takes_its_weights_and_its_pictures(tmp_path):
    network = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=64)
    target = load_target(card(tmp_path, "timm:vit_tiny_patch16_224", 64, network))
    assert target(torch.rand(2, 3, 64, 64)).shape == (2, 10)


def test_networks_whose_parameters_do_not_depend_on_it_run_at_any_size(tmp_path):
    network = timm.create_model("test_resnet", num_classes=10)
    assert load_target(card(tmp_path, "timm:test_resnet", 96, network))(torch.rand(1, 3, 96, 96)).shape == (
        1,
        10,
    )


def test_a_size_that_a_network_cannot_take_is_one_clear_error(tmp_path):
    with pytest.raises(InputError, match=r"card\.json: torchvision:vit_b_32 cannot be built for 100 px"):
        load_target(card(tmp_path, "torchvision:vit_b_32", 100))
    network = torchvision.models.squeezenet1_1(num_classes=10)
    with pytest.raises(
        InputError, match=r"card\.json: torchvision:squeezenet1_1 takes no pictures of 8 px \("
    ):
        load_target(card(tmp_path, "torchvision:squeezenet1_1", 8, network))
