"""Who drives a study: one process, on one machine, at a time.

Owns `driver.lock`. The lock of the file system decides where it reaches; not every shared one does so across machines,
so the holder also shows every few seconds that it is there. Must not know what a driver does.
"""

import fcntl
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from hpo.errors import StudyLockedError

LOCK = "driver.lock"
RENEW_SECONDS = 5.0
GRACE_SECONDS = 20.0
"""How long the file of a holder on another machine must not have changed before another driver takes its place."""


@dataclass(frozen=True)
class Holder:
    """since: seconds since the epoch, by its own clock."""

    host: str
    pid: int
    since: float

    def __str__(self) -> str:
        began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"process {self.pid} on {self.host}, since {began}"

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()


@contextmanager
def driver_lock(
    folder: Path, lost: Callable[[str], None] | None = None, grace: float = GRACE_SECONDS
) -> Iterator[None]:
    """Hold the study in `folder`. The lock ends with the process that holds it, however that ends. lost: called should
    another driver have taken this one's place, as it may after this machine has slept; by default the process ends.

    Raises StudyLockedError, with who holds it; after `grace` seconds where that is on another machine and may be gone.
    """
    path = folder / LOCK
    with open(path, "a+", encoding="utf-8") as file:
        holder = _holder(path)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(path, file):  # whoever held it until now was refused, and has removed the folder
                raise BlockingIOError
        except BlockingIOError:
            raise _locked(folder, holder) from None
        except OSError:  # a file system without locks
            if holder and holder.is_here and _is_alive(holder.pid):
                raise _locked(folder, holder) from None
        if holder and not holder.is_here and _moves(path, grace):
            raise _locked(folder, holder)
        own = Holder(socket.gethostname(), os.getpid(), time.time())
        _write(file, json.dumps(asdict(own)))
        left = threading.Event()
        watch = threading.Thread(target=_renew, args=(path, own, left, lost or _end), name="lease", daemon=True)
        watch.start()
        try:
            yield
        finally:
            left.set()
            watch.join()
            if _holder(path) == own:
                _write(file, "")
                _remove_if_bare(folder)


def _is_at(path: Path, file: IO[str]) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _remove_if_bare(folder: Path) -> None:
    """A run that was refused leaves no folder behind that has nothing but its lock. For the holder."""
    with suppress(OSError):
        if [own.name for own in folder.iterdir()] == [LOCK]:
            (folder / LOCK).unlink()
            folder.rmdir()


def _renew(path: Path, own: Holder, left: threading.Event, lost: Callable[[str], None]) -> None:
    while not left.wait(RENEW_SECONDS):
        with suppress(OSError):  # a share that is away for a moment; whoever else wants the study sees it, too
            holder = _holder(path)
            if holder not in (own, None):
                lost(f"study: another driver ({holder}) has taken over; this one ends")
                return
            os.utime(path)


def _moves(path: Path, seconds: float) -> bool:
    """Whether somebody shows within so many seconds that it is there. Only changes count: clocks may differ."""
    before, end = _stamp(path), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(min(0.5, seconds / 4))
        if _stamp(path) != before:
            return True
    return False


def _stamp(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:  # opened anew: that makes a network file system look
        return os.fstat(file.fileno()).st_mtime_ns, file.read(1_000).decode("utf-8", "replace")


def _holder(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError):
        return None  # nobody, or somebody who has not written yet


def _locked(folder: Path, holder: Holder | None) -> StudyLockedError:
    who = str(holder) if holder else "it has not said who it is"
    return StudyLockedError(f"study: another driver holds {folder} ({who}); wait for it, or stop it first")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write(file: IO[str], text: str) -> None:
    with suppress(OSError):  # a full disk: the lock holds, it only names nobody
        file.seek(0)
        file.truncate(0)
        file.write(text)
        file.flush()


def _end(words: str) -> None:
    print(f"error: {words}", file=sys.stderr, flush=True)
    os._exit(StudyLockedError.exit_code)
