"""One driver a study: who holds it, here and on another machine."""

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from hpo.errors import StudyLockedError
from hpo.study import lease
from hpo.study.lease import LOCK, driver_lock


def elsewhere(folder: Path, host: str = "elsewhere") -> Path:
    """The file as a driver on another machine leaves it, whose lock does not reach us."""
    path = folder / LOCK
    path.write_text(json.dumps({"host": host, "pid": 4711, "since": 1_000_000_000.0}))
    return path


def test_the_second_driver_is_told_who_holds_the_study_and_since_when(tmp_path: Path) -> None:
    with driver_lock(tmp_path), pytest.raises(StudyLockedError) as caught, driver_lock(tmp_path):
        raise AssertionError("two drivers")
    assert f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d')}" in str(caught.value)
    assert caught.value.exit_code == 75


def test_a_study_that_was_left_is_free_at_once(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text("{}")
    for _ in range(2):
        started = time.monotonic()
        with driver_lock(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
        assert time.monotonic() - started < 5
        assert (tmp_path / LOCK).read_text() == ""


def test_what_a_killed_driver_of_this_machine_left_holds_nobody_up(tmp_path: Path) -> None:
    elsewhere(tmp_path, host=socket.gethostname())
    started = time.monotonic()
    with driver_lock(tmp_path):
        assert time.monotonic() - started < 5


def test_a_driver_on_another_machine_that_shows_that_it_is_there_keeps_the_study(tmp_path: Path) -> None:
    path = elsewhere(tmp_path)
    left = threading.Event()

    def renew() -> None:
        while not left.wait(0.1):
            os.utime(path)

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        with pytest.raises(StudyLockedError, match="process 4711 on elsewhere, since 2001"), driver_lock(tmp_path):
            raise AssertionError("two drivers")
    finally:
        left.set()
        thread.join()


def test_one_that_is_silent_for_long_enough_is_gone(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    with driver_lock(tmp_path, grace=0.3):
        assert json.loads((tmp_path / LOCK).read_text())["host"] == socket.gethostname()


def test_a_driver_that_was_asleep_while_another_took_over_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    said: list[str] = []
    with driver_lock(tmp_path, lost=said.append):
        elsewhere(tmp_path)
        deadline = time.monotonic() + 5
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
    assert "another driver (process 4711 on elsewhere" in said[0]
    assert "elsewhere" in (tmp_path / LOCK).read_text()  # the other one's word stays


def test_a_run_that_was_refused_leaves_no_folder_with_nothing_but_its_lock(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    with driver_lock(folder):
        pass
    assert not folder.exists()
    folder.mkdir()
    with driver_lock(folder):
        (folder / "study.json").write_text("{}")
    assert (folder / LOCK).exists()
