"""What a training pass of RIAE costs beside large matrix products and a straightforward RIAE, in one run.

Contenders take turns on the same random images with the same random choices; see README.md beside this.
"""

import json
import resource
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version

import click
import torch
from contest import Flops, Goal, device_name, in_turns, repeat, timed
from straightforward import Straightforward
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from variants import NAMES, Variant, build

from impure.manifests.base.errors import first_line
from impure.manifests.base.tables import markdown_table
from impure.purifier.data.dataset import Batch
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.noise import Randomness
from impure.purifier.riae.riae_config import PRESETS, DecoderKind, RIAEConfig, preset
from impure.purifier.training.objectives.riae_objective import RIAEObjective
from impure.purifier.training.train_config import TrainConfig
from impure.purifier.training.train_step import TrainStep

PRODUCTS, PLAIN, OURS = "matrix products", "straightforward, fp32", "impure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Something to time, with its arithmetic and how many images it works on."""

    name: str
    work: Callable[[], object]
    flops: float
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Figures of one contender; `share` is of the matrix products' rate in the same round, a median."""

    name: str
    seconds: list[float]
    images_per_second: float
    gflop_per_image: float
    share: float
    speed: float
    memory_mib: float
    first_seconds: float  # of the first pass, compilation included


def training_pass(
    model: nn.Module, images: Tensor, clean: Tensor, randomness: Randomness, bf16: bool
) -> None:
    """Go forwards and backwards once, with the pixel loss."""
    model.zero_grad(set_to_none=True)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        loss = (model(images, randomness) - clean).abs().mean()
    loss.backward()


def flops_of(work: Callable[[], object]) -> float:
    """Count arithmetic; attention as plain products, which alone are counted on every device."""
    with sdpa_kernel(SDPBackend.MATH), Flops() as flops:
        work()
    return float(flops.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured, and where."""

    config: RIAEConfig
    size: int
    batch_size: int
    device: torch.device
    bf16: bool
    compiled: bool
    variants: tuple[str, ...]


def straightforward(config: RIAEConfig) -> Straightforward:
    """The rival in the size of a config."""
    return Straightforward(
        patch=config.patch, grid=config.grid, width=config.encoder_dim, depth=config.encoder_depth,
        heads=config.encoder_heads, narrow=config.decoder_dim, decoder_depth=config.decoder_depth,
        decoder_heads=config.decoder_heads, fused=config.fusion,
    )  # fmt: skip


def contenders(setting: Setting) -> list[Contender]:
    """Set everything up; the first contender is the rate to compare with, the second the rival."""
    torch.manual_seed(0)
    device, batch = setting.device, setting.batch_size
    train_config = TrainConfig(
        recipe="pixel", bf16=setting.bf16, compiled=setting.compiled, batch_size=batch, crop=setting.size
    )
    train_step = TrainStep(train_config, RIAEObjective(train_config, RIAE(setting.config), None), device)
    plain = straightforward(setting.config).to(device)
    levels = torch.randint(0, 256, (2, batch, 3, setting.size, setting.size), device=device).byte()
    images = levels[0].float() / 255
    clean = train_step.model.normalise(levels[1].float() / 255)
    randomness = train_step.model.draw_training(images, torch.Generator(device).manual_seed(0))
    whole = Batch(
        levels[0],
        levels[1],
        torch.arange(batch, device=device),
        1.0,
        torch.zeros(batch, dtype=torch.int64, device=device),
    )

    def of(variant: Variant) -> None:
        with variant.surroundings():
            training_pass(variant.network, images, clean, randomness, setting.bf16)

    ours = partial(training_pass, train_step.network, images, clean, randomness, setting.bf16)
    rival = partial(training_pass, plain, images, clean, randomness, False)
    update = partial(train_step.update, [whole], 0, 1e-6)
    flops = flops_of(partial(training_pass, train_step.model, images, clean, randomness, setting.bf16))
    variants = [build(train_step.model, name) for name in setting.variants]
    return [
        products(device, torch.bfloat16 if setting.bf16 else torch.float32),
        Contender(name=PLAIN, work=rival, flops=flops_of(rival), images=batch),
        Contender(name=OURS, work=ours, flops=flops, images=batch),
        Contender(name=f"{OURS}, whole update", work=update, flops=flops, images=batch),
        *(
            Contender(name=f"{OURS}, {each.name}", work=partial(of, each), flops=flops, images=batch)
            for each in variants
        ),
    ]


def products(device: torch.device, dtype: torch.dtype) -> Contender:
    """Large matrix products: the rate that there is."""
    side, times = (8192, 20) if device.type == "cuda" else (2048, 4) if dtype == torch.float32 else (256, 1)
    matrix = torch.randn(side, side, device=device, dtype=dtype)

    def work() -> None:
        repeat(times, lambda: torch.mm(matrix, matrix))

    return Contender(name=PRODUCTS, work=work, flops=2.0 * side**3 * times, images=0)


def compete(found: list[Contender], device: torch.device, rounds: int) -> list[Row]:
    """Time everybody in turn, after a warm-up."""
    memory: dict[str, float] = {}
    first: dict[str, float] = {}
    for each in found:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        try:
            first[each.name] = timed(each.work, device)
        except RuntimeError as error:  # a variant that this machine cannot run must not cost the others
            click.echo(f"{each.name}: {first_line(error)}", err=True)
        memory[each.name] = peak_memory(device)
    found = [each for each in found if each.name in first]
    seconds = in_turns({each.name: each.work for each in found}, device, rounds)
    return [row_of(each, seconds, found[0].flops, memory[each.name], first[each.name]) for each in found]


def row_of(
    contender: Contender,
    seconds: dict[str, list[float]],
    products_flops: float,
    memory: float,
    first: float,
) -> Row:
    """Figures of one contender; ratios are taken round by round."""
    own = seconds[contender.name]
    rates = [products_flops / each for each in seconds[PRODUCTS]]
    return Row(
        name=contender.name,
        seconds=own,
        images_per_second=contender.images / statistics.median(own),
        gflop_per_image=contender.flops / max(contender.images, 1) / 1e9,
        share=statistics.median(contender.flops / each / rate for each, rate in zip(own, rates, strict=True)),
        speed=statistics.median(rival / each for each, rival in zip(own, seconds[PLAIN], strict=True)),
        memory_mib=memory,
        first_seconds=first,
    )


def peak_memory(device: torch.device) -> float:
    """MiB: the GPU's peak since it was reset; on a CPU the process's peak so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def goals(rows: list[Row], device: torch.device) -> list[Goal]:
    """Mark what was to be reached, per device."""
    limits = (0.50, 3.0) if device.type == "cuda" else (0.85, 1.05)  # the specification's
    ours = next(row for row in rows if row.name == OURS)
    texts = (f"share of the rate of {PRODUCTS} at least", f"speed over {PLAIN} at least")
    return [
        Goal(text=text, value=value, limit=limit, met=value >= limit)
        for text, value, limit in zip(texts, (ours.share, ours.speed), limits, strict=True)
    ]


def as_table(rows: list[Row]) -> str:
    """All figures as Markdown."""
    header = [
        "contender",
        "ms",
        "images/s",
        "GFLOP/image",
        "share of products",
        "speed",
        "peak MiB",
        "first s",
    ]
    cells = [
        [row.name, f"{1000 * statistics.median(row.seconds):.0f}", f"{row.images_per_second:.3g}",
         f"{row.gflop_per_image:.1f}", f"{row.share:.3f}", f"{row.speed:.3f}", f"{row.memory_mib:.0f}",
         f"{row.first_seconds:.1f}"]
        for row in rows
    ]  # fmt: skip
    return markdown_table(header, cells)


@click.command()
@click.option("--device", "name", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads; PyTorch's choice by default.")
@click.option("--model", type=click.Choice(list(PRESETS)), default="base", show_default=True)
@click.option("--size", type=int, default=224, show_default=True, help="Pixels a side, a multiple of 32.")
@click.option("--batch-size", type=click.IntRange(1), default=2, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=7, show_default=True, help="Timings of each.")
@click.option("--decoder", type=click.Choice(["copies", "cross"]), default="copies", show_default=True)
@click.option("--bf16", is_flag=True, help="Ours, and the matrix products, in bfloat16.")
@click.option("--compile", "compiled", is_flag=True, help="Ours compiled.")
@click.option(
    "--variant",
    "variants",
    multiple=True,
    help=f"Also measure ours with these, joined by +: {', '.join(NAMES)}; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
def main(
    name: str, threads: int | None, model: str, size: int, batch_size: int, rounds: int, decoder: DecoderKind,
    bf16: bool, compiled: bool, variants: tuple[str, ...], as_json: bool,
) -> None:  # fmt: skip
    """Measure RIAE's training pass (ViT-B, masking mode both); goals are marked, never enforced."""
    torch.set_num_threads(threads or torch.get_num_threads())
    device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
    setting = Setting(
        config=preset(model, decoder=decoder), size=size, batch_size=batch_size, device=device, bf16=bf16,
        compiled=compiled, variants=variants,
    )  # fmt: skip
    rows = compete(contenders(setting), device, rounds)
    conditions = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "device": device_name(device),
        "threads": torch.get_num_threads(), "model": model, "size": size, "batch_size": batch_size,
        "rounds": rounds,
        "decoder": decoder, "precision": "bf16" if bf16 else "fp32", "compiled": compiled,
        "torch": version("torch"),
    }  # fmt: skip
    found = goals(rows, device)
    if as_json:
        document = {"conditions": conditions, "rows": rows, "goals": found}
        return click.echo(json.dumps(document, indent=1, default=asdict))
    click.echo("\n".join(f"- {key}: {value}" for key, value in conditions.items()) + "\n")
    return click.echo(f"{as_table(rows)}\n\n" + "\n".join(map(str, found)))


if __name__ == "__main__":
    main()
