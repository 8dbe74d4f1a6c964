"""From clean images to pairs: attack a batch, classify the bytes to be stored, describe each in a row."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from impure.manifests.base.canonical_json import canonical_json
from impure.manifests.base.images import Pixels, px_sha256
from impure.manifests.collection.samples import Sample
from impure.manifests.collection.schema import FAILED, Row
from impure.manifests.collection.shard_id import CLEAN, sample_key
from impure.manifests.collection.writer import Encoded, encode
from impure.pipeline.attacks.engine.eval_mode import giving_logits
from impure.pipeline.attacks.engine.precision import matrix_products
from impure.pipeline.attacks.engine.threat_model import AttackError, AttackResult, refuse_broken
from impure.pipeline.attacks.run_attack import attack_batch
from impure.pipeline.generation.attack_job import AttackJob
from impure.pipeline.generation.batch_size import free_memory, is_out_of_memory
from impure.pipeline.generation.clean_cache import CleanCache, PlannedImage
from impure.pipeline.generation.events import ENCODE, VERDICT, Compiling, Emit, timed
from impure.pipeline.generation.time_left import PassMeter
from impure.pipeline.tensors import to_float, to_pixels, to_tensor

LOGGER = logging.getLogger(__name__)

#: What goes into a sample's own JSON: fixed, and never null.
SAMPLE_FIELDS = (
    "key", "source_id", "source_sha256", "split", "label", "wnid", "target", "attack", "preset",
    "params_json", "implementation", "eps_255", "target_class", "seed", "width", "height", "clean_px_sha256",
    "adv_px_sha256", "pred_clean", "pred_adv", "success", "linf_255", "l2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch of images.

    Attributes:
        samples: Functions that encode one pair each, to be called in any thread.
        failed: Rows of images on which the attack broke.
        attacked_together: How many images each call of the attack took.
    """

    samples: list[Callable[[], Encoded]]
    failed: list[Row]
    attacked_together: list[int]


def attack_all(job: AttackJob, images: CleanCache, meter: PassMeter) -> Iterator[Batch]:
    """Attack batch by batch; where memory runs out, with half as many images from there on.

    Raises:
        RuntimeError: The device failed, or memory runs out even for a single image.
    """
    size = job.batch_size
    start = 0
    while cleans := images.read(start, size):
        try:
            batch = _attack(job, cleans, meter)
        except RuntimeError as error:
            if len(cleans) == 1 or not is_out_of_memory(error):
                raise
            size = (len(cleans) + 1) // 2
            LOGGER.warning("%s: out of memory, from here on %d images at once", job.attack_name, size)
        else:
            yield batch
            start += len(cleans)
            continue
        free_memory()  # not before the error is gone: it holds on to the tensors


def _attack(job: AttackJob, cleans: Sequence[PlannedImage], meter: PassMeter) -> Batch:
    """Attack one batch; where it breaks, each image by itself, so that only the broken ones are lost."""
    try:
        return Batch(_attack_together(job, cleans, meter), [], [len(cleans)])
    except AttackError as error:
        LOGGER.warning("%s broke on %d images", job.attack_name, len(cleans), exc_info=error)
        if len(cleans) == 1:
            return _lost(job, cleans[0], error)
        return _attack_one_by_one(job, cleans, meter)


def _attack_one_by_one(job: AttackJob, cleans: Sequence[PlannedImage], meter: PassMeter) -> Batch:
    """Attack each image of a batch by itself."""
    batch = Batch([], [], [])
    for clean in cleans:
        try:
            samples = _attack_together(job, [clean], meter)
        except AttackError as error:
            batch.failed.extend(_lost(job, clean, error).failed)
        else:
            batch.samples.extend(samples)
            batch.attacked_together.append(1)
    return batch


def _lost(job: AttackJob, clean: PlannedImage, error: AttackError) -> Batch:
    """An image on which the attack broke."""
    return Batch([], [failed_row(job, clean.row, FAILED, str(error))], [])


def _attack_together(
    job: AttackJob, batch: Sequence[PlannedImage], meter: PassMeter
) -> list[Callable[[], Encoded]]:
    """Attack one batch, and classify the bytes that will be stored.

    Raises:
        AttackError: The attack, or the target's prediction of its bytes, broke on one of the images.
    """
    job.target.lay_out(job.memory_format)
    pixels = [image.pixels for image in batch]
    clean = to_tensor(pixels, job.target.mean.device, job.target.memory_format)
    labels = torch.tensor([image.row["label"] for image in batch], device=clean.device)
    source_ids = [image.row["source_id"] for image in batch]
    if job.compiled is not None and not job.compiled.is_ready:
        meter.emit(Compiling(job.attack_name))
        job.compiled.compile()
    with meter.attack():
        attacked = _run_attack(job, source_ids, clean, labels, meter)
        if clean.is_cuda:
            torch.cuda.synchronize(clean.device)  # else its time would be counted as the verdict's
    with timed(meter.emit, VERDICT):
        verdicts = _verdicts(job, source_ids, clean, labels, attacked)
    adversarial = to_pixels(attacked.adversarial)
    return [
        partial(_encode, job, image, pixels, verdict, meter.emit)
        for image, pixels, verdict in zip(batch, adversarial, verdicts, strict=True)
    ]


def _run_attack(
    job: AttackJob, source_ids: Sequence[str], clean: Tensor, labels: Tensor, meter: PassMeter
) -> AttackResult:
    """Run the attack; the untouched pairs are their own adversarial images."""
    if job.attack is None:
        with torch.inference_mode(), matrix_products("fp32"):
            predictions = job.target(to_float(clean)).argmax(1)
        zeros = torch.zeros_like(labels)
        return AttackResult(
            adversarial=clean,
            proposal_linf_255=zeros,
            pred_float=predictions,
            grad_evals=zeros,
            target_classes=zeros - 1,
        )
    form = giving_logits(job.target) if job.compiled is None else job.compiled
    return attack_batch(
        job.attack, job.target, clean, labels, source_ids, job.seed, compiled=meter.metered(form)
    )


def _verdicts(
    job: AttackJob, source_ids: Sequence[str], clean: Tensor, labels: Tensor, attacked: AttackResult
) -> list[Row]:
    """The columns that the target's predictions and the stored bytes decide, image by image.

    Raises:
        AttackError: The target's logits of stored bytes are NaN or infinite.
    """
    with torch.inference_mode(), matrix_products("fp32"):
        logits = job.target(to_float(attacked.adversarial))
        confidence, prediction = logits.softmax(1).max(1)
    # A logit of -inf only rules its class out; NaN or +inf leaves no prediction that could be a success.
    refuse_broken(
        logits.amax(1, keepdim=True),
        "the target gives NaN or infinite logits on the stored bytes",
        source_ids,
    )
    success = torch.where(
        attacked.target_classes >= 0, prediction == attacked.target_classes, prediction != labels
    )
    change = attacked.adversarial.to(torch.int16) - clean.to(torch.int16)
    columns = {
        "pred_adv_float": attacked.pred_float.tolist(),
        "pred_adv": prediction.tolist(),
        "conf_adv": confidence.tolist(),
        "success": success.tolist(),
        "target_class": attacked.target_classes.tolist(),
        "linf_255": change.abs().flatten(1).amax(1).tolist(),
        "l2": (change.flatten(1).to(torch.float64).norm(dim=1) / 255).tolist(),
        "proposal_linf_255": attacked.proposal_linf_255.tolist(),
        "grad_evals": attacked.grad_evals.tolist(),
    }
    verdicts: list[Any] = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    return verdicts


def _encode(job: AttackJob, clean: PlannedImage, adversarial: Pixels, verdict: Row, emit: Emit) -> Encoded:
    """The sample as it is stored, and its manifest row."""
    with timed(emit, ENCODE):
        clean.check()
        row: Row = {**_base_row(job, clean.row), **verdict, "adv_px_sha256": px_sha256(adversarial)}
        meta = {name: value for name, value in row.items() if name in SAMPLE_FIELDS}
        sample = Sample(row["key"], clean.pixels, adversarial, row["label"], meta)
        return encode(sample, row, job.storage, job.attack_name, clean.encoded)


def _base_row(job: AttackJob, planned: Row) -> Row:
    """The columns that are known before the attack runs."""
    key = f"{CLEAN}-e0" if job.attack is None else job.attack.key
    return {
        **planned,
        "key": sample_key(job.target.card.name, key, planned["source_id"]),
        "attack": CLEAN if job.attack is None else job.attack.name,
        "preset": "" if job.attack is None else job.attack.preset,
        "params_json": canonical_json({} if job.attack is None else job.attack.record()),
        "implementation": "" if job.attack is None else job.attack.implementation,
        "eps_255": 0 if job.attack is None else job.attack.eps_255,
        "seed": job.seed,
        "run_id": job.run_id,
    }


def failed_row(job: AttackJob, planned: Row, status: str, error: str) -> Row:
    """The row of an image that has no sample."""
    return {**_base_row(job, planned), "status": status, "error": error}
