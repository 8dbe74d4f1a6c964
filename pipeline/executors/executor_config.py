"""Which executor makes the shards, with how many workers; free of torch, for help texts."""

from dataclasses import dataclass
from pathlib import Path

from impure.manifests.base.errors import InputError

EXECUTOR_NAMES = ("inline", "local", "rank", "ray", "slurm")

SLURM_JOBS = 8
"""Jobs of slurm at once, where nobody says how many."""

_USED_BY = {"workers": ("local", "slurm"), "worker": ("rank",), "submit": ("slurm",)}
"""Option -> the executors that take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutorConfig:
    """Which executor, with how many workers.

    Attributes:
        executor: One of `EXECUTOR_NAMES`.
        workers: Processes or jobs; None for as many as the devices suggest.
        worker: For rank: `i/n`.
        submit: For slurm: parameters of submitit, `KEY=VALUE` each.
        job_folder: For slurm: folder of its jobs (see `run_slurm`).
    """

    executor: str = "inline"
    workers: int | None = None
    worker: str | None = None
    submit: tuple[str, ...] = ()
    job_folder: Path = Path("slurm")

    def __post_init__(self) -> None:
        if self.executor not in EXECUTOR_NAMES:
            raise InputError(f"executor {self.executor!r} is none of {', '.join(EXECUTOR_NAMES)}")
        for name, executors in _USED_BY.items():
            if getattr(self, name) and self.executor not in executors:
                raise InputError(f"--{name} is for --executor {' or '.join(executors)}")
