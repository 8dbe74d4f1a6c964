import torch
import torchvision
from torch import nn

from impure.pipeline.targets.weight_names import fit_names, unwrap
from impure.pipeline.targets.weights import load_published, load_weights_file

SMALL = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
WEIGHTS = SMALL.state_dict()


def same(network, weights=WEIGHTS):
    return all(torch.equal(network.state_dict()[name], tensor) for name, tensor in weights.items())


def fresh():
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_wrappers_and_prefixes_are_taken_off_and_said(tmp_path, capsys):
    for prefix in ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."):
        named = {f"{prefix}{name}": tensor for name, tensor in WEIGHTS.items()}
        for content in (named, {"state_dict": named, "epoch": 3}, {"model": named, "optimizer": {"lr": 0.1}}):
            torch.save(content, tmp_path / "w.pth")
            network = fresh()
            load_weights_file(network, tmp_path / "w.pth")
            assert same(network)
            said = capsys.readouterr().err
            assert ("taken off" in said) == (content is not named or bool(prefix))
            assert all(f"{part}." in said for part in prefix.split(".") if part)


def test_a_prefix_that_only_some_names_have_stays():
    assert unwrap({"module.a": 1, "b": 2}) == ({"module.a": 1, "b": 2}, [])
    assert unwrap({}) == ({}, [])


def test_counters_of_batches_may_be_missing_and_nothing_else():
    network = fresh()
    load_published(network, {name: value for name, value in WEIGHTS.items() if "tracked" not in name}, "x")
    assert same(network)


def published_style(name):
    """A parameter's name in the files that torchvision publishes: DenseNet's and ViT's are older."""
    for new, old in (
        (".norm1.", ".norm.1."),
        (".norm2.", ".norm.2."),
        (".conv1.", ".conv.1."),
        (".conv2.", ".conv.2."),
    ):
        name = name.replace(new, old) if "denselayer" in name else name
    return name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2.")


def test_names_that_torchvision_publishes_are_understood():
    for name in ("densenet121", "densenet161", "densenet169", "densenet201", "vit_b_16", "vit_l_32"):
        with torch.device("meta"):
            own = (network := torchvision.models.get_model(name, weights=None)).state_dict()
        weights = {published_style(key): value for key, value in own.items() if "tracked" not in key}
        assert weights.keys() - own.keys(), name
        assert fit_names(network, weights).keys() == own.keys(), name


def test_networks_that_ask_for_a_files_version_are_filled():
    network = torchvision.models.mnasnet0_5()
    published = torchvision.models.mnasnet0_5().state_dict()
    load_published(network, published, "x")
    assert all(torch.equal(value, published[name]) for name, value in network.state_dict().items())


def test_auxiliary_heads_may_be_missing():
    for build, size in ((torchvision.models.googlenet, 224), (torchvision.models.inception_v3, 299)):
        with torch.device("meta"):
            network = build(weights=None, init_weights=False, aux_logits=True).eval()
            images = torch.rand(1, 3, size, size)
        own = network.state_dict()
        weights = {name: value for name, value in own.items() if not name.lower().startswith("aux")}
        assert len(weights) < len(own)
        assert fit_names(network, weights).keys() == network.state_dict().keys() == weights.keys()
        assert network(images).shape == (1, 1000)
