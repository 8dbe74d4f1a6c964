import json

import pytest
import timm
import torch
import torchvision
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json
from impure.pipeline.sources.imagenet import imagenet_wnids
from impure.pipeline.targets import load
from impure.pipeline.targets.load import load_target
from impure.pipeline.targets.target import state_sha256
from impure.pipeline.targets.target_card import read_card
from impure.pipeline.targets.target_names import BUILTIN_CARD


def random_weights(network, path):
    """Untrained weights: enough to test plumbing, and only ever used because a test names the file."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def test_normalisation_is_inside(builtin_target):
    images = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor(builtin_target.card.mean), torch.tensor(builtin_target.card.std)
    by_hand = builtin_target.network((images - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert torch.equal(builtin_target(images), by_hand)


def test_a_target_is_frozen_and_in_eval_mode(builtin_target):
    assert not builtin_target.training
    assert not any(parameter.requires_grad for parameter in builtin_target.parameters())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_inception_gets_the_input_transform_its_weights_expect(tmp_path, suffix):
    network = torchvision.models.inception_v3(weights=None, init_weights=False)
    target = load_target("inception_v3", random_weights(network, tmp_path / f"w{suffix}"))
    assert target.network.transform_input
    assert target.weights_sha256 == state_sha256(network)
    card = target.card
    assert (card.input_size, card.resize, card.interpolation, card.mean[0]) == (299, 342, "bilinear", 0.485)
    assert card.wnids == imagenet_wnids()
    assert target(torch.rand(1, 3, 299, 299)).shape == (1, 1000)


def test_torchvision_and_timm_names_take_what_their_library_says(tmp_path):
    weights = random_weights(torchvision.models.resnet18(), tmp_path / "a.safetensors")
    card = load_target("torchvision:resnet18", weights).card
    assert (card.name, card.resize, card.crop) == ("resnet18", 256, 224)
    weights = random_weights(timm.create_model("test_resnet.r160_in1k"), tmp_path / "b.safetensors")
    card = load_target("timm:test_resnet.r160_in1k", weights).card
    assert (card.name, card.crop, card.resize, card.interpolation) == (
        "test_resnet-r160_in1k",
        160,
        168,
        "bilinear",
    )


@pytest.mark.parametrize("name", ["resnet101", "torchvision:resnet18"])
def test_weights_that_cannot_be_had_are_one_clear_error(name, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def no_network(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    with pytest.raises(InputError, match=rf"{name.rpartition(':')[2]}.*https://.*{tmp_path}.*--weights"):
        load_target(name)


def test_timm_weights_that_cannot_be_had_are_one_clear_error(monkeypatch):
    def no_network(*_):
        raise OSError("no network")

    monkeypatch.setattr("socket.getaddrinfo", no_network)
    with pytest.raises(InputError, match=r"inception_resnet_v2.*https://huggingface.co/timm/.*--weights"):
        load_target("inception_resnet_v2")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "all_proxy"])
def test_behind_a_proxy_the_hubs_client_is_asked_without_a_name_server(monkeypatch, tmp_path, variable):
    def no_name_server(*_):
        raise OSError("Name or service not known")

    def download(repository, file, **local):
        if local:
            raise LocalEntryNotFoundError("not in the cache")
        return str(tmp_path / repository / file)

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("socket.getaddrinfo", no_name_server)
    monkeypatch.setattr(load, "hf_hub_download", download)
    with pytest.raises(OSError, match="not known"):
        load._hub_file("timm/x")
    monkeypatch.setenv(variable, "http://proxy:3128")
    assert load._hub_file("timm/x") == str(tmp_path / "timm/x/model.safetensors")
    monkeypatch.setenv("no_proxy", "huggingface.co")
    with pytest.raises(OSError, match="not known"):
        load._hub_file("timm/x")


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        ("legacy_seresnet18.in1k", r"not on the Hub, but at https://\S+/seresnet18-4bb0ce65\.pth"),
        ("ghostnet_050", "no weights of ghostnet_050"),
    ],
)
def test_timm_weights_that_are_not_on_the_hub_are_one_clear_error(architecture, said):
    with pytest.raises(InputError, match=f"{said}; give the file with --weights"):
        load_target(f"timm:{architecture}")


@pytest.mark.parametrize(
    "name",
    ["resnet1001", "torchvision:", "torchvision:nope", "torchvision:deeplabv3_resnet50", "timm:nope", "tf:x"],
)
def test_unknown_targets_are_refused(name):
    with pytest.raises(InputError, match=name.partition(":")[2] or name):
        load_target(name)


def test_weights_that_do_not_fit_are_named(tmp_path):
    wrong = random_weights(torchvision.models.resnet18(num_classes=7), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w\.safetensors.*fc\.(bias|weight)"):
        load_target("torchvision:resnet18", wrong)
    with pytest.raises(InputError, match=r"missing: layer1\.2"):
        load_target("torchvision:resnet34", wrong)


def test_weights_with_nan_are_refused(tmp_path):
    network = torchvision.models.resnet18()
    torch.nn.init.constant_(network.fc.bias, float("nan"))
    with pytest.raises(InputError, match=r"hold NaN or infinity, the first is fc\.bias"):
        load_target("torchvision:resnet18", random_weights(network, tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "a/b", "name"),
        ("wnids", ["a"], "wnids"),
        ("crop", 4096, "crop"),
        ("interpolation", "lanczos", "lanczos"),
        ("std", [0, 1, 1], "std"),
        ("mean", [1], "mean"),
        ("surprise", 1, "surprise"),
        ("crop_mode", "stretch", "stretch"),
        ("resize", "x", "resize must be int"),
        ("mean", ["x", 1, 1], "mean"),
        ("architecture", "timm:nope", "timm:nope"),
        ("weights", "nowhere.safetensors", "nowhere"),
    ],
)
def test_impossible_cards_are_refused(tmp_path, field, value, said):
    path = tmp_path / "card.json"
    path.write_text(json.dumps(read_json(BUILTIN_CARD) | {field: value}))
    with pytest.raises(InputError, match=said):
        load_target(str(path))


def test_the_builtin_card_reads_back():
    assert read_card(BUILTIN_CARD).name == "builtin"
