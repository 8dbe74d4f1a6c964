"""Mutated markers and plans through every command that reads them: one line or success, no traceback.

Nor may one hang, or take more than `MOST_MEMORY`. `IMPURE_MUTATIONS` says how many the slow test tries.
"""

import json
import math
import os
import random
import re
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from impure.manifests.base.parquet import CONFIG_KEY
from impure.manifests.collection.marker import MAX_BYTES
from impure.manifests.collection.schema import PLAN
from impure.pipeline.targets.target import Target

MOST_SECONDS = 120  # of a command; the slowest takes a few, on a machine that does little else
MOST_MEMORY = 1 << 30  # bytes, beyond what the process had before the command

VALUES = (
    None, True, False, 0, -1, 3, 1.5, 10**39, 1e39, 9 * 10**15, "", "x", "\x1b[2J", "../../x", "a" * 5000,
    [], [1], ["a"], [["a"]], {}, {"a": 1}, {"a": {"b": [1]}},
)  # fmt: skip

CELLS = {
    pa.string(): ("", "\x1b[2J", "../../x", None),
    pa.float32(): (None, -1.0, math.nan, math.inf),
}
"""By type; whole numbers for all others."""


def places(value, path=()):
    """The path of everything in parsed JSON, but of the many classes' names only the first."""
    yield path
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:2] if isinstance(value, list) else ())
    )
    for key, part in items:
        yield from places(part, (*path, key))


def mutated(value, rng):
    """Parsed JSON with one thing in it replaced, removed or added; and what was done."""
    value = json.loads(json.dumps(value))
    path = rng.choice([path for path in places(value) if path])
    parent = value
    for key in path[:-1]:
        parent = parent[key]
    kind, new = rng.choice(("replace",) * 6 + ("remove", "add")), rng.choice(VALUES)
    if kind == "remove":
        del parent[path[-1]]
    elif kind == "add" and isinstance(parent, dict):
        parent[rng.choice(("extra", "\x1b]0;x\x07", "params", "software"))] = new
    else:
        parent[path[-1]] = new
    return value, f"{kind} {'.'.join(map(str, path))} {str(new)[:40]!r}"


def mutate_marker(root, rng):
    path = rng.choice(sorted(root.rglob("*.done.json")))
    value, done = mutated(json.loads(path.read_text()), rng)
    path.write_text(json.dumps(value))
    return f"{path.relative_to(root)}: {done}"


def mutate_plan(root, rng):
    """Change a plan's config, or a cell of its table."""
    path = rng.choice(sorted((root / "plans").glob("*.parquet")))
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    if rng.random() < 0.6:
        config, done = mutated(json.loads(metadata[CONFIG_KEY]), rng)
        metadata[CONFIG_KEY] = json.dumps(config).encode()
    else:
        rows, name = table.to_pylist(), rng.choice(PLAN.names)
        new = rng.choice(CELLS.get(PLAN.field(name).type, (None, -1, 2**31 - 1, 0)))
        rows[rng.randrange(len(rows))][name], done = new, f"{name} {new!r}"
        table = pa.Table.from_pylist(rows, schema=PLAN)
    pq.write_table(table.replace_schema_metadata(metadata), path)
    return f"{path.relative_to(root)}: {done}"


def generating(imagenet, card, root):
    """The command that made `few_pairs`."""
    return (
        "data", "generate", "--images", imagenet, "--target", card, "--attack", "clean,fgsm",
        "--per-class", 2, "--shard-size", 6, "--batch-size", 6, "--threads", 1, "--out", root,
    )  # fmt: skip


def commands(root, aside, imagenet, card, every):
    """The commands that need no network, quick ones, then all others that read markers or plans."""
    yield "data", "status", root
    yield "data", "status", root, "--json"
    yield "data", "ls", root
    yield "data", "ls", root, "--json"
    yield "data", "verify", root
    yield "data", "query", root, "select * from shards"
    yield "data", "query", root, "select * from plans"
    yield "data", "preview", root
    yield "data", "card", root
    yield "data", "pull", root, aside / "pulled"
    yield "data", "push", root, aside / "pushed"
    yield "data", "merge", aside / "merged", root
    if not every:
        return
    yield "data", "rebuild", root, "--images", imagenet, "--out", aside / "rebuilt"
    yield "evaluate", "--shards", root, "--target", card, "--defence", "none", "--out", aside / "report"
    yield "train", "--shards", root, "--model", "tiny", "--dry-run", "--out", aside / "run"
    yield generating(imagenet, card, root)


LOGITS = {}  # of `remembering`


class HangError(BaseException):
    """A command that does not end; no handler of errors may hold it up."""


@contextmanager
def deadline():
    """Raise HangError in what takes longer than `MOST_SECONDS`."""

    def end(*_):
        raise HangError(f"{MOST_SECONDS} s and no end")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(MOST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def memory(kind):
    """Bytes of this process's memory: `VmRSS` now, `VmHWM` at most."""
    return (
        int(re.search(rf"^{kind}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) << 10
    )


def growth_and_result(run, *command):
    """Bytes of memory that a command took at most, and its result."""
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what is taken now
    before = memory("VmRSS")
    with deadline():
        result = run(*command)
    return memory("VmHWM") - before, result


def wrong_with(result):
    """What a command may not do: end in a traceback, or send escapes to the terminal."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return f"{type(result.exception).__name__}: {result.exception}"
    return "escapes in its output" if "\x1b[2J" in result.output or "\x1b]0;" in result.output else None


def try_one(seed, collection_root, tmp_path, imagenet, card, run, *, every):
    """What goes wrong after one mutation."""
    rng = random.Random(seed)
    root = shutil.copytree(collection_root, tmp_path / "root")
    done = rng.choice((mutate_marker, mutate_marker, mutate_plan))(root, rng)
    wrong = []
    for name, *words in commands(root, tmp_path / "aside", imagenet, card, every):
        start = time.monotonic()
        grown, result = growth_and_result(run, name, *words)
        took = f"{time.monotonic() - start:.2f} s, {grown / 2**20:.0f} MiB"
        print(f"{name} {words[0]}: {took}")  # noqa: T201 - figures to look at, with -s
        problem = f"took {grown} bytes" if grown > MOST_MEMORY else wrong_with(result)
        if problem:
            wrong.append(f"{done}: {name} {words[0]}: {problem}")
    return wrong


@pytest.mark.parametrize("seed", range(2))
def test_a_mutation_is_one_line_or_does_no_harm(seed, collection_root, tmp_path, imagenet, card, run):
    assert not try_one(seed, collection_root, tmp_path, imagenet, card, run, every=False)


def test_a_plan_whose_counts_are_no_numbers_is_one_line(collection_root, tmp_path, run):
    root = shutil.copytree(collection_root, tmp_path / "root")
    path = root / "plans" / "small-train.parquet"
    table = pq.read_table(path)
    config = json.loads(table.schema.metadata[CONFIG_KEY]) | {"asked": "many"}
    metadata = {**table.schema.metadata, CONFIG_KEY: json.dumps(config)}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    refused = run("data", "status", root)
    assert refused.exit_code == 1 and refused.stderr.endswith("holds numbers that no plan has (asked)\n")


@pytest.fixture(scope="module")
def few_pairs(imagenet, card, run, tmp_path_factory):
    """A collection with one marker each of clean and FGSM, and few images, so that commands take little."""
    root = tmp_path_factory.mktemp("few") / "root"
    made = run(*generating(imagenet, card, root))
    assert made.exit_code == 0, made.output
    return root


@pytest.fixture
def remembering(monkeypatch):
    """Targets run once on the same images, however often: every mutation shows them again."""
    forward = Target.forward

    def recall(target, images):
        if images.requires_grad:
            return forward(target, images)
        key = (target.weights_sha256, images.shape, images.dtype, images.numpy().tobytes())
        if key not in LOGITS:
            LOGITS[key] = forward(target, images)
        return LOGITS[key].clone()

    monkeypatch.setattr(Target, "forward", recall)


@pytest.mark.slow
@pytest.mark.usefixtures("remembering")
@pytest.mark.parametrize("seed", range(int(os.environ.get("IMPURE_MUTATIONS", "20"))))
def test_mutations_through_every_command(seed, few_pairs, tmp_path, imagenet, card, run):
    assert not try_one(seed, few_pairs, tmp_path, imagenet, card, run, every=True)


def test_what_a_command_takes_is_seen():
    grown, _ = growth_and_result(lambda: bytearray(50 << 20))
    assert 45 << 20 < grown < 500 << 20
    with pytest.MonkeyPatch.context() as patch, pytest.raises(HangError):
        patch.setattr(signal, "alarm", lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds and 0.05))
        growth_and_result(lambda: time.sleep(5))


def test_a_pull_of_a_size_that_cannot_be_is_refused(collection_root, tmp_path, run):
    root = shutil.copytree(collection_root, tmp_path / "root")
    path = sorted(root.rglob("*.done.json"))[0]
    marker = json.loads(path.read_text())
    for size in (10**39, MAX_BYTES + 1):
        marker["tar"]["bytes"] = size
        path.write_text(json.dumps(marker))
        result = run("data", "pull", root, tmp_path / f"out-{size}")
        assert result.exit_code == 1 and "its tar.bytes is" in result.output, result.output
