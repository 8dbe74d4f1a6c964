"""Disks that fill up or cannot be written are named, and cost nothing that was made."""

import shutil
import subprocess
import sys

import pytest

from impure.manifests.checks.verify import verify
from impure.manifests.collection.collection import Collection
from tests.common import hashes, one_line
from tests.pipeline.generation.small_run import RUN, arguments, half_made


@pytest.fixture
def disk(tmp_path):
    """Mounts a small disk of its own, or mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.decode().strip()}")
        return place

    yield mount
    subprocess.run(["umount", "--lazy", place], capture_output=True)  # a traceback may hold a file open


@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_a_disk_that_fills_up_is_named_and_the_same_command_goes_on_when_there_is_room(
    share, imagenet, card, calm, run, disk
):
    bytes_needed = sum(path.stat().st_size for path in calm.rglob("*") if path.is_file())
    place = disk(f"size={int(share * bytes_needed)}")
    given = ("data", *arguments(imagenet, card, place / "root"))
    for _ in range(2):  # and again while it is full
        one_line(run(*given), rf"{place}/\S*: .*No space left on device")
        assert half_made(place / "root") == []
        assert len(Collection(place / "root").marked()) < 8
    disk("remount,size=64m")
    made = run(*given)
    assert made.exit_code == 0, made.output
    assert hashes(place / "root") == hashes(calm)
    assert verify(Collection(place / "root"), "decode") == []
    assert not [path for path in (place / "root" / "_tmp").iterdir() if path.is_dir()]


@pytest.mark.slow
def test_a_disk_that_fills_up_under_workers_is_named_too(imagenet, card, calm, disk):
    place = disk("size=150k")
    given = arguments(imagenet, card, place / "root", "--executor", "local", "--workers", 2)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, given)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert str(place) in errors[0]
    assert "No space left" in errors[0]
    assert "Traceback" not in done.stderr
    assert half_made(place / "root") == []


def test_a_disk_that_cannot_be_written_is_one_clear_line_and_can_be_read(
    imagenet, card, calm, run, disk, tmp_path
):
    place = disk("size=64m")
    shutil.copytree(calm, place / "root", ignore=shutil.ignore_patterns("_tmp"))
    disk("remount,ro")
    read_only = rf"{place}/\S*: .*Read-only file system"
    one_line(run("data", *arguments(imagenet, card, place / "root")), read_only)
    one_line(run("data", *arguments(imagenet, card, place / "new")), read_only)
    one_line(run("data", "sample", "--split", "train", "--out", place / "root"), read_only)
    one_line(run("data", "card", place / "root"), read_only)
    one_line(run("data", "pull", f"file://{calm}", place / "root"), read_only)
    one_line(run("data", "merge", place / "root", calm), read_only)
    for command in ("status", "ls", "verify"):
        assert run("data", command, place / "root").exit_code == 0
    drawn = run("data", "preview", place / "root", "--out", tmp_path / "sheet.png")
    assert drawn.exit_code == 0, drawn.output
    one_line(run("data", "preview", place / "root"), read_only)
