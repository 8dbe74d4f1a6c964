"""An attack that needs more classes than a target has is refused before the run; the others go on."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import impure
from impure.manifests.base.errors import InputError
from impure.manifests.base.files import read_json
from impure.manifests.collection.collection import Collection
from impure.pipeline.attacks.attack_config import AttackConfig
from impure.pipeline.attacks.attack_registry import ATTACKS
from tests.conftest import WNIDS, run

NEEDED = {"apgd-dlr": 3, "pgd-dlr": 3, "apgd-t": 4, "autoattack": 4}
QUICK = {"steps": 2, "queries": 4, "target_classes": 2, "iterations": 2, "search_steps": 1}


@pytest.fixture(scope="module")
def narrow(card, tmp_path_factory):
    """Makes a card of the built-in target that knows its first classes alone."""

    def make(count):
        folder, shipped = tmp_path_factory.mktemp("narrow"), read_json(card)
        weights = load_file(shipped["weights"])
        save_file(
            {name: w[:count].clone() if len(w.shape) and len(w) == 10 else w for name, w in weights.items()},
            folder / "w.safetensors",
        )
        changed = {"name": "narrow", "wnids": WNIDS[:count], "num_classes": count, "weights": "w.safetensors"}
        (folder / "card.json").write_text(json.dumps(shipped | changed))
        return folder / "card.json"

    return make


def generate(images, target, root, attack, *more):
    return run(
        "data", "generate", "--images", images, "--target", target, "--attack", attack, "--split", "train",
        "--per-class", 1, "--batch-size", 3, "--threads", 1, "--allow-short", "--out", root, *more,
    )  # fmt: skip


def classifier(count):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, count)).eval()


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("targeted", [None, "least-likely"])
def test_the_registry_says_how_few_classes_are_enough(name, targeted):
    """With one class fewer it is one line; with so many nothing is raised, fooled or not."""
    if targeted and not ATTACKS[name].targeted:
        return
    needed = 4 if targeted and name in ("apgd-dlr", "pgd-dlr") else NEEDED.get(name, 2)
    images = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    model = classifier(needed)
    labels = model(images / 255).argmax(1)
    settings = {key: value for key, value in QUICK.items() if key in ATTACKS[name].paper}
    assert (
        impure.attack(model, images, labels, name, eps=1, targeted=targeted, **settings).shape == images.shape
    )
    with pytest.raises(InputError, match=f"^{name}.* needs a target of {needed} classes or more"):
        fewer = classifier(needed - 1)
        impure.attack(fewer, images, fewer(images / 255).argmax(1), name, eps=1, targeted=targeted)


def test_the_others_go_on_and_the_command_says_what_is_left_out(imagenet, narrow, tmp_path):
    made = generate(imagenet, narrow(2), tmp_path / "out", "fgsm,apgd-dlr", "--json")
    assert made.exit_code == 3
    (line,) = [line for line in made.stderr.splitlines() if "left out" in line]
    assert line.endswith("apgd-dlr needs a target of 3 classes or more, this one has 2")
    document = json.loads(made.stdout)
    assert list(document["refused"]) == ["apgd-dlr"]
    assert {shard_id.attack for shard_id in Collection(tmp_path / "out").marked()} == {"fgsm"}


def test_nothing_is_made_where_none_can_run(imagenet, narrow, tmp_path):
    made = generate(imagenet, narrow(3), tmp_path / "out", "autoattack", "--eps", "1")
    assert made.exit_code == 1
    assert "autoattack-e1 needs a target of 4 classes or more, this one has 3" in made.stderr
    assert not (tmp_path / "out").exists()


def test_a_budget_is_named_with_its_attack():
    with pytest.raises(InputError, match="^apgd-dlr-e8-random needs a target of 4 classes"):
        AttackConfig(name="apgd-dlr", eps_255=8, targeted="random").check_classes(3)
