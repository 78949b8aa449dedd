"""Temporary folders of runners: gone with their driver, or with the next one where the driver was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hpo.runners.scratch import scratch, sweep

HELD = """
import sys, time
from pathlib import Path
from hpo.runners.scratch import scratch
with scratch("hpo-x-", Path(sys.argv[1])) as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_a_folder_is_there_while_it_is_used(tmp_path: Path) -> None:
    with scratch("hpo-x-", tmp_path) as folder:
        (folder / "file").write_text("x")
        sweep(tmp_path, "hpo-x-")
        assert (folder / "file").exists()
    assert not folder.exists()


def test_the_next_one_removes_that_of_a_killed_process_and_of_no_other(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        left = Path(process.stdout.readline().strip())
        sweep(tmp_path, "hpo-x-")
        assert left.is_dir()
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert left.is_dir()
    with scratch("hpo-x-", tmp_path):
        assert not left.exists()


def test_what_is_not_its_own_stays(tmp_path: Path) -> None:
    strange, fresh, old = tmp_path / "hpo-x-data", tmp_path / "hpo-x-fresh", tmp_path / "hpo-x-old"
    for folder in (strange, fresh, old):
        folder.mkdir()
    (strange / "file").write_text("x")
    for folder in (strange, old):
        os.utime(folder, (time.time() - 600, time.time() - 600))
    sweep(tmp_path, "hpo-x-")
    assert strange.is_dir()
    assert fresh.is_dir()
    assert not old.exists()
