"""The options of `impure-data generate`, in the sections of its help."""

import click

from impure.manifests.collection.shard_id import CLEAN
from impure.manifests.collection.storage_profiles import DELTA, PAIRS
from impure.manifests.commands.click_options import default_of, device_options, json_option, options
from impure.manifests.commands.console import CommandWithSections
from impure.pipeline.attacks.attack_names import (
    ALL_ATTACKS,
    IMPLEMENTATIONS,
    PAPER_ATTACKS,
    PAPER_EPS_255,
    PRECISIONS,
    PRESETS,
    TARGET_CLASS_CHOICES,
)
from impure.pipeline.commands.shared_options import (
    batch_option,
    collection_options,
    sample_options,
    storage_options,
)
from impure.pipeline.executors.executor_config import EXECUTOR_NAMES, SLURM_JOBS, ExecutorConfig

SECTIONS = {
    "attack": "Attacks",
    "images": "Images and target",
    "encoding": "Collection",
    "batch_size": "Devices and workers",
    "dry_run": "Output",
}
"""Name of the first option of a section -> its heading."""


class SweepCommand(CommandWithSections):
    """A command that takes several values after one `--eps`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `--eps 4 8 16` as `--eps 4 --eps 8 --eps 16`."""
        spread: list[str] = []
        for arg in args:
            spread += ["--eps", arg] if spread[-2:-1] == ["--eps"] and arg.isdigit() else [arg]
        return super().parse_args(ctx, spread)


_attack_options = options(
    click.option("--attack", required=True, metavar=f"NAME[,NAME…]|{ALL_ATTACKS}",
        help=f"Attacks of the paper: {', '.join(PAPER_ATTACKS)}. "
        f"{CLEAN} stores untouched pairs; {ALL_ATTACKS} is {CLEAN} and the paper's nine. "
        "`impure-data attacks` lists AutoAttack and the others beyond the paper, too."),
    click.option("--eps", type=int, multiple=True, default=(PAPER_EPS_255,), show_default=True,
        metavar="N …", help="L∞ budget in units of 1/255; several make a sweep: --eps 4 8 16."),
    click.option("--targeted", type=click.Choice(TARGET_CLASS_CHOICES),
        show_default="any class but the true one",
        help="Steer to one class, chosen for each image."),
    click.option("--preset", type=click.Choice(PRESETS), default=PRESETS[0], show_default=True,
        help="Parameters of the attacks. paper: the paper's. library: Torchattacks' defaults. release: the "
        "paper's, but DeepFool, PGD, MI, DI and M-DI² as its authors' programs run them. cleverhans: the "
        "paper's, but C&W with CleverHans' defaults."),
    click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
        help="One parameter of the attacks, such as --set steps=20. Repeat it for more."),
    click.option("--implementation", type=click.Choice(IMPLEMENTATIONS), default=IMPLEMENTATIONS[0],
        show_default=True, help="Whose code attacks. The libraries need `pip install 'impure[references]'`."),
    click.option("--restarts", type=click.IntRange(min=1), default=1, show_default=True,
        help="Number of runs, each from another random start and on the images not fooled so far."),
    click.option("--precision", type=click.Choice(PRECISIONS), default=PRECISIONS[0], show_default=True,
        help="Floating-point precision of the attack; the verdict is always in fp32."),
    click.option("--compile", "compiled", is_flag=True,
        help="Attack through the target compiled by PyTorch."),
)  # fmt: skip

_profile_option = click.option(
    "--profile", type=click.Choice([PAIRS, DELTA]), default=PAIRS, show_default=True,
    help="delta stores perturbations alone, to be shared without ImageNet's images: see rebuild.",
)  # fmt: skip

_executor_options = options(
    click.option("--executor", type=click.Choice(EXECUTOR_NAMES), show_default=True,
        default=default_of(ExecutorConfig, "executor"),
        help="Who works. inline: this process. local: a process per GPU, or per --threads cores. rank: one "
        "of several machines (by --worker, a Slurm array or torchrun). ray: a Ray cluster. "
        "slurm: Slurm jobs."),
    click.option("--workers", type=click.IntRange(min=1),
        show_default=f"one per GPU, or per --threads cores; {SLURM_JOBS} jobs",
        help="Number of processes of local, or of jobs of slurm."),
    click.option("--worker", metavar="I/N",
        help="For rank: this machine's number, from 0, and how many there are."),
    click.option("--submit", multiple=True, metavar="KEY=VALUE",
        help="For slurm: a parameter of submitit, such as --submit slurm_partition=gpu. Repeat it for more."),
)  # fmt: skip

generate_options = options(
    _attack_options,
    sample_options,
    storage_options,
    _profile_option,
    collection_options,
    batch_option,
    device_options,
    _executor_options,
    click.option("--dry-run", is_flag=True,
        help="Say what would be made and how long it would take at most; nothing is sampled or written."),
    json_option,
)  # fmt: skip
