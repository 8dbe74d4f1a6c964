"""Replay: whether the target, and on request the attack, gives today what a shard says."""

from collections.abc import Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor

from impure.manifests.base.errors import first_line
from impure.manifests.base.images import px_sha256
from impure.manifests.collection.collection import CommittedShard
from impure.manifests.collection.samples import read_sample
from impure.manifests.collection.stored_pairs import index_pairs
from impure.pipeline.attacks.engine.precision import matrix_products
from impure.pipeline.attacks.engine.threat_model import AttackError
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.generation.attack_job import circumstances, software
from impure.pipeline.maintenance.repair import attack_of, checked, compiled_of
from impure.pipeline.targets.target import Target
from impure.pipeline.tensors import to_float, to_pixels, to_tensor

TIE = 1e-3
"""Classes whose probabilities are this close may swap places on another machine."""


def replayed(committed: CommittedShard, target: Target, count: int) -> Iterator[str]:
    """What the target says otherwise than the manifest, of `count` samples spread over a shard."""
    rows, samples = committed.stored_rows("pred_adv", "pred_clean"), index_pairs(committed)
    step = max(len(samples) // count, 1)
    for row, index in islice(zip(rows[::step], samples[::step], strict=True), count):
        sample = read_sample(index)
        both = to_float(to_tensor([sample.clean, sample.adversarial], target.mean.device))
        with torch.inference_mode(), matrix_products("fp32"):
            probabilities = target(both).softmax(1)
        recorded = {"pred_clean": row["pred_clean"], "pred_adv": row["pred_adv"]}
        for (name, prediction), of_image in zip(recorded.items(), probabilities, strict=True):
            if not _agrees(of_image, prediction):
                yield f"sample {sample.key}: {name} is {prediction}, the target says {int(of_image.argmax())}"


def _agrees(probabilities: Tensor, prediction: int) -> bool:
    """Whether a prediction is the target's, or as good as that."""
    known = 0 <= prediction < len(probabilities)
    return known and bool(probabilities.max() - probabilities[prediction] <= TIE)


def attacked_again(committed: CommittedShard, target: Target) -> str | None:
    """What another run of the attack on a shard's first batch changes; None if every pixel is the same.

    Float32 rounding depends on the device, the number of threads and the versions of the software, and a
    signed gradient makes pixels of it: only where those are the recorded ones must the pixels be the same.
    """
    marker, where = committed.marker, f"{committed.shard_id}: its config"
    config = checked(marker["config"], where)
    together, attack = marker.get("attacked_together"), attack_of(config, where)
    if attack is None or not together:
        return None
    if not isinstance(together, list) or type(together[0]) is not int or together[0] < 1:
        return f"its marker's attacked_together is no list of counts, it is {together!r}"
    size = together[0]
    rows = committed.stored_rows("adv_px_sha256")[:size]
    samples = [read_sample(index) for index in index_pairs(committed)[:size]]
    target.lay_out(config["memory_format"])
    clean = to_tensor([sample.clean for sample in samples], target.mean.device, target.memory_format)
    labels = torch.tensor([sample.label for sample in samples], device=clean.device)
    ids = [row["source_id"] for row in rows]
    compiled = compiled_of(config, attack, target, max(config["batch_size"], size))
    try:
        attacked = attack_batch(attack, target, clean, labels, ids, config["seed"], compiled=compiled)
    except AttackError as error:
        return f"the attack breaks: {first_line(error)}"
    hashes = [px_sha256(image) for image in to_pixels(attacked.adversarial)]
    differing = sum(sha256 != row["adv_px_sha256"] for sha256, row in zip(hashes, rows, strict=True))
    if not differing:
        return None
    why = _what_changed(committed, {**circumstances(target), **software(attack.implementation)})
    return f"the attack gives other pixels on {differing} of {len(samples)} images{why}"


def _what_changed(committed: CommittedShard, now: Mapping[str, object]) -> str:
    """In brackets, what is not as it was when a shard was made: why pixels may differ; empty if all is."""
    changed = [name for name, value in now.items() if value != committed.marker.get(name)]
    return f" (but here {', '.join(changed)} differ)" if changed else ""
