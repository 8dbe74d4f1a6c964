"""One unit of work: attack the images of one shard, decide on the stored bytes, commit."""

import platform
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from impure.manifests.collection import CLEAN, Collection, Unit
from impure.manifests.config import canonical_json, plain
from impure.manifests.pixels import Pixels, px_sha256
from impure.manifests.samples import Sample
from impure.manifests.schema import CHANGED, FAILED, SCHEMA_VERSION, STATUS_OK
from impure.pipeline.attacks import (
    AttackConfig,
    Attacked,
    AttackError,
    Model,
    attack_batch,
    matrix_products,
)
from impure.pipeline.batches import free_memory, is_out_of_memory
from impure.pipeline.images import load_clean, to_pixels, to_tensor, to_unit
from impure.pipeline.plans import Plan, Row
from impure.pipeline.shards import commit, find_committed, sample_key
from impure.pipeline.sources import Source, SourceImage
from impure.pipeline.targets import Target

SOFTWARE = ("torch", "torchvision", "timm", "numpy", "pillow")

#: What goes into a sample's own JSON: fixed, and never null.
SAMPLE_FIELDS = (
    "key", "source_id", "source_sha256", "split", "label", "wnid", "target", "attack", "preset",
    "params_json", "implementation", "eps_255", "aim", "seed", "width", "height", "clean_px_sha256",
    "adv_px_sha256", "pred_clean", "pred_adv", "success", "linf_255", "l2",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clean:
    """A planned image, ready to be attacked: its row of the plan and its pixels."""

    row: Row
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class UnitResult:
    """What became of one unit."""

    unit: Unit
    counts: dict[str, int]
    seconds: float
    resumed: bool


@dataclass(frozen=True, kw_only=True)
class Job:
    """One attack on the plan of one split, with all that it needs.

    Attributes:
        attack: None for the untouched pairs.
        seed: Of every draw.
        batch_size: Images attacked at once. Part of the config, because float32 rounding depends on it.
        compiled: The target compiled, to attack through; None runs it as it is. The verdict never uses it.
    """

    collection: Collection
    source: Source
    target: Target
    plan: Plan
    attack: AttackConfig | None
    seed: int
    batch_size: int
    run_id: str
    compiled: Model | None = None

    @property
    def attack_name(self) -> str:
        """Folder name of the attack."""
        return CLEAN if self.attack is None else self.attack.variant

    def config(self) -> dict[str, Any]:
        """Everything that decides the stored pixels, as JSON."""
        attack = (
            {"name": CLEAN} if self.attack is None else {**asdict(self.attack), "params": self.attack.params}
        )
        return plain(
            {
                "schema_version": SCHEMA_VERSION,
                "plan": self.plan.digest,
                "target": self.target.identity(),
                "attack": attack,
                "seed": self.seed,
                "batch_size": self.batch_size,
                "compiled": self.compiled is not None,
            }
        )

    def unit(self, shard: int) -> Unit:
        """The unit of one of the plan's shards."""
        return Unit(self.target.card.name, self.attack_name, self.plan.split, shard)


def new_run_id() -> str:
    """A name for one run of the program, sortable by time."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def finished(job: Job, shard: int) -> UnitResult | None:
    """The result of a unit that is committed already (see `find_committed`); None if it has to be made."""
    there = find_committed(job.collection, job.unit(shard), job.config())
    return None if there is None else UnitResult(there.unit, there.marker["counts"], 0.0, resumed=True)


def shards_of(plan: Plan) -> dict[int, list[Row]]:
    """The plan's rows by shard."""
    found: dict[int, list[Row]] = {}
    for row in plan.table.to_pylist():
        found.setdefault(row["shard"], []).append(row)
    return found


def generate(
    jobs: Sequence[Job], progress: Callable[[int], object] = lambda count: None
) -> Iterator[UnitResult]:
    """Make every unit of several attacks on one plan that is not committed yet.

    The images of a shard are decoded once for all attacks.

    Args:
        jobs: Attacks on one and the same plan.
        progress: Called with the number of images done, as they are done.

    Yields:
        One result for each unit, shard by shard.

    Raises:
        InputError: A committed unit was made with another config.
    """
    for shard, rows in shards_of(jobs[0].plan).items():
        done = [finished(job, shard) for job in jobs]
        yield from (result for result in done if result is not None)
        todo = [job for job, result in zip(jobs, done, strict=True) if result is None]
        progress(len(rows) * (len(jobs) - len(todo)))
        loaded = load_shard(jobs[0], rows) if todo else ([], [])
        for job in todo:
            yield make_unit(job, shard, *loaded, progress)


def load_shard(job: Job, rows: Sequence[Row]) -> tuple[list[Clean], list[Row]]:
    """Decode the images of a shard again; tell those that cannot be had or have changed since the plan."""

    def load(row: Row) -> Clean | Row:
        if row["status"] != STATUS_OK:
            return row
        clean = load_clean(job.source, SourceImage(row["source_id"], row["wnid"]), job.target.card)
        if clean.pixels is None:
            return {**row, "status": FAILED, "error": clean.error}
        if px_sha256(clean.pixels) != row["clean_px_sha256"]:
            return {**row, "status": CHANGED, "error": "other pixels than when the plan was drawn"}
        return Clean(row, clean.pixels)

    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, rows))
    return [each for each in loaded if isinstance(each, Clean)], [
        each for each in loaded if isinstance(each, dict)
    ]


def make_unit(
    job: Job, shard: int, cleans: Sequence[Clean], lost: Sequence[Row], progress: Callable[[int], object]
) -> UnitResult:
    """Attack, judge and commit the images of one shard."""
    started = time.perf_counter()
    samples: list[Sample] = []
    rows = [_failed_row(job, row, row["status"], row["error"]) for row in lost]
    used = job.batch_size
    for size, made in _batches(job, cleans):
        for sample, row in made:
            rows.append({**row, "index_in_shard": None if sample is None else len(samples)})
            samples += [] if sample is None else [sample]
        used = min(used, size)
        progress(len(made))
    progress(len(lost))
    library = "impure" if job.attack is None else job.attack.implementation
    facts = {
        "run_id": job.run_id,
        "threads": torch.get_num_threads(),
        "device": str(job.target.mean.device),
        "batch_size_used": used,
    }
    marker = commit(job.collection, job.unit(shard), samples, rows, job.config(), facts | software(library))
    return UnitResult(job.unit(shard), marker["counts"], time.perf_counter() - started, resumed=False)


Made = tuple[Sample | None, Row]


def _batches(job: Job, cleans: Sequence[Clean]) -> Iterator[tuple[int, list[Made]]]:
    """Attack batch by batch; where memory runs out, with half as many images from there on.

    Yields:
        The batch size in force, and what was made of the batch.
    """
    size, start = job.batch_size, 0
    while start < len(cleans):
        batch = cleans[start : start + size]
        try:
            made = list(_attack(job, batch))
        except RuntimeError as error:
            if len(batch) == 1 or not is_out_of_memory(error):
                raise
            size = (len(batch) + 1) // 2
        else:
            yield size, made
            start += len(batch)
            continue
        free_memory()  # not before the error is gone: it holds on to the tensors


def _attack(job: Job, batch: Sequence[Clean]) -> Iterator[Made]:
    """Attack one batch; where it breaks, each image by itself, so that only the broken ones are lost."""
    try:
        yield from _attack_together(job, batch)
    except AttackError as error:
        if len(batch) == 1:
            yield None, _failed_row(job, batch[0].row, FAILED, str(error))
            return
        for each in batch:
            yield from _attack(job, [each])


def _attack_together(job: Job, batch: Sequence[Clean]) -> list[Made]:
    """Attack one batch and judge the bytes that will be stored."""
    clean = to_tensor([each.pixels for each in batch], job.target.mean.device)
    labels = torch.tensor([each.row["label"] for each in batch], device=clean.device)
    attacked = _propose(job, batch, clean, labels)
    with torch.inference_mode(), matrix_products("fp32"):
        confidence, prediction = job.target(to_unit(attacked.adversarial)).softmax(1).max(1)
    reached = torch.where(attacked.aims >= 0, prediction == attacked.aims, prediction != labels)
    change = attacked.adversarial.to(torch.int16) - clean.to(torch.int16)
    columns = {
        "pred_adv_float": attacked.pred_float.tolist(),
        "pred_adv": prediction.tolist(),
        "conf_adv": confidence.tolist(),
        "success": reached.tolist(),
        "aim": attacked.aims.tolist(),
        "linf_255": change.abs().flatten(1).amax(1).tolist(),
        "l2": (change.flatten(1).to(torch.float64).norm(dim=1) / 255).tolist(),
        "proposal_linf_255": attacked.proposal_linf_255.tolist(),
        "grad_evals": attacked.grad_evals.tolist(),
    }
    verdicts = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    adversarial = to_pixels(attacked.adversarial)
    return [_stored(job, *each) for each in zip(batch, adversarial, verdicts, strict=True)]


def _propose(job: Job, batch: Sequence[Clean], clean: Tensor, labels: Tensor) -> Attacked:
    """Run the attack; the untouched pairs are their own proposal."""
    if job.attack is None:
        with torch.inference_mode(), matrix_products("fp32"):
            predictions = job.target(to_unit(clean)).argmax(1)
        nothing = torch.zeros_like(labels)
        return Attacked(clean, nothing, predictions, nothing, nothing - 1)
    ids = [each.row["source_id"] for each in batch]
    return attack_batch(job.attack, job.target, clean, labels, ids, job.seed, through=job.compiled)


def _stored(job: Job, clean: Clean, adversarial: Pixels, verdict: Row) -> tuple[Sample, Row]:
    """The sample to store and its manifest row."""
    row = {**_base_row(job, clean.row), **verdict, "adv_px_sha256": px_sha256(adversarial)}
    meta = {name: row[name] for name in SAMPLE_FIELDS}
    return Sample(row["key"], clean.pixels, adversarial, row["label"], meta), row


def _base_row(job: Job, planned: Row) -> Row:
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


def _failed_row(job: Job, planned: Row, status: str, error: str) -> Row:
    """The row of an image that has no sample."""
    return {**_base_row(job, planned), "index_in_shard": None, "status": status, "error": error}


def software(library: str = "impure") -> dict[str, Any]:
    """Versions of what computed the pixels, the attacks' own library among them."""
    versions = {name: version(name) for name in (*SOFTWARE, library)}
    return {"software": versions | {"python": platform.python_version()}}
