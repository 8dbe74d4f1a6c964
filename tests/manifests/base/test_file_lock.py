"""Locks: one holder at a time, and a killed one holds nothing."""

import os
import signal
import subprocess
import sys

from impure.manifests.base.file_lock import file_lock, take_lock


def test_a_lock_has_one_holder_at_a_time(tmp_path):
    with file_lock(tmp_path / "below" / "lock"), (tmp_path / "below" / "lock").open("w") as other:
        assert not take_lock(other, wait=False)
    with (tmp_path / "below" / "lock").open("w") as other:
        assert take_lock(other, wait=False)


def test_a_folder_can_be_locked(tmp_path):
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert take_lock(first, wait=False) and not take_lock(second, wait=False)
    os.close(first)
    assert take_lock(second, wait=False)
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
            assert not take_lock(file, wait=False)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert take_lock(file)
