"""What tests of several rooms ask about results and collections, and a small run to begin with."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from click.testing import Result

from impure.manifests.collection.collection import Collection
from impure.manifests.collection.schema import STATUS_OK
from impure.manifests.collection.shard_id import ShardId
from impure.purifier.checkpoints.checkpoint import save_checkpoint, save_config
from impure.purifier.riae.model import RIAE
from impure.purifier.riae.riae_config import RIAEConfig

#: Options of the training runs of tests.
PLAIN = ("--model", "tiny", "--epochs", 1, "--batch-size", 9, "--device", "cpu", "--threads", 1)

SMALL = RIAEConfig(
    patch=4, grid=20, encoder_dim=16, encoder_depth=2, encoder_heads=2, decoder_dim=16, decoder_depth=1,
    decoder_heads=2, fusion=(0,),
)  # fmt: skip


def small_run(folder: Path, riae: RIAE | None = None, **config: Any) -> Path:
    """A run's folder, as training leaves it, of a given purifier or a tiny one."""
    if riae is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            riae = RIAE(SMALL)
    save_config(folder, {"riae": asdict(riae.config), **config})
    save_checkpoint(folder, riae.state_dict(), {})
    return folder


def one_line(result: Result, said: str, code: int = 1) -> None:
    """Bad input: one clear line on standard error, no traceback, a non-zero exit."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1, result.stderr
    assert re.search(said, errors[0]), errors[0]


def hashes(root: Path) -> dict[str, tuple[str, str]]:
    """Pixel hashes by sample, of everything that is committed and stored."""
    rows = [row for shard in Collection(root).committed for row in shard.rows()[0].to_pylist()]
    assert len({row["key"] for row in rows}) == len(rows), "a sample stands there twice"
    return {
        row["key"]: (row["clean_px_sha256"], row["adv_px_sha256"])
        for row in rows
        if row["status"] == STATUS_OK
    }


def stamps(root: Path) -> dict[str, int]:
    """When each file of a collection was written last, but for logs and what is being written."""
    paths = [path for path in root.rglob("*") if path.is_file() and not {"_tmp", "_logs"} & set(path.parts)]
    return {path.relative_to(root).as_posix(): path.stat().st_mtime_ns for path in paths}


def files_of(*shard_ids: ShardId | str) -> set[str]:
    """The files of some shards."""
    return {f"{shard_id}.{ending}" for shard_id in shard_ids for ending in ("tar", "parquet", "done.json")}
