"""--compile: attacks that can go through the compiled target, are recorded so, and are replayed so."""

import torch

from impure.manifests.collection.collection import Collection
from impure.pipeline.attacks.engine import compiled_target
from tests.pipeline.generation.small_run import arguments


def test_what_was_attacked_through_a_compiled_target_is_recorded_and_replayed(
    imagenet, card, run, tmp_path, monkeypatch
):
    shapes = []

    def compiled(module, **options):
        return lambda images: shapes.append(len(images)) or module(images)

    monkeypatch.setattr(compiled_target.torch, "compile", compiled)
    command = [str(word) for word in arguments(imagenet, card, tmp_path, "--compile")]
    command[command.index("fgsm,pgd")] = "pgd,deepfool"
    made = run("data", *command, "--batch-size", 2, "--precision", "bf16")
    assert made.exit_code == 0, made.output
    recorded = {
        shard.shard_id.attack: shard.marker["config"]["compiled"] for shard in Collection(tmp_path).readable()
    }
    assert recorded == {"pgd": True, "deepfool": False}
    assert set(shapes) == {2}, "shards of three images are attacked two by two"
    shapes.clear()
    replayed = run("data", "verify", tmp_path, "--level", "replay", "--again", "--target", card)
    assert replayed.exit_code == 0, replayed.output
    assert set(shapes) == {2}
    assert torch.is_grad_enabled()
