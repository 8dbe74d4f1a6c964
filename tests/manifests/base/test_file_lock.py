"""Locks: one holder at a time, and a killed one holds nothing."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys

import pytest

from impure.manifests.base.file_lock import file_lock, may_be_locked, take_lock


def test_a_lock_has_one_holder_at_a_time(tmp_path):
    with file_lock(tmp_path / "below" / "lock"), (tmp_path / "below" / "lock").open("w") as other:
        assert not take_lock(other, tmp_path, wait=False)
    with (tmp_path / "below" / "lock").open("w") as other:
        assert take_lock(other, tmp_path, wait=False)


def test_a_folder_can_be_locked(tmp_path):
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert take_lock(first, tmp_path, wait=False) and not take_lock(second, tmp_path, wait=False)
    os.close(first)
    assert take_lock(second, tmp_path, wait=False)
    os.close(second)


def test_a_killed_process_lets_go(tmp_path):
    path = tmp_path / "lock"
    code = (
        "import sys, time; from pathlib import Path; from impure.manifests.base.file_lock import file_lock\n"
        "with file_lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with path.open("w") as file:
            assert not take_lock(file, path, wait=False)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert take_lock(file, path)


@pytest.mark.parametrize(
    "bare_disk", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get, indirect=True
)
def test_a_disk_without_locks_refuses_nobody_and_says_so_once(bare_disk, tmp_path, caplog):
    path = tmp_path / "lock"
    with caplog.at_level(logging.WARNING), file_lock(path) as first, file_lock(path) as second:
        assert (first, second) == (False, False)
        with path.open("w") as file:
            assert take_lock(file, path) and take_lock(file, path, wait=False)
    assert may_be_locked(path)
    (note,) = caplog.messages
    assert note.startswith(f"{tmp_path}: its disk knows no file locks (")


def test_any_other_refusal_names_the_file(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error") as caught, file_lock(tmp_path / "lock"):
        pass
    assert caught.value.filename == str(tmp_path / "lock")
