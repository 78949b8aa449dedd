"""A folder that many trials need, made once by whichever comes first. Must not know what is in it."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hpo.durable import sync


def made_once(home: Path, make: Callable[[Path], Path], wait: Callable[[], None]) -> Path:
    """`home`, made where it is not there. make: fills a temporary folder, and names the part of it that becomes `home`.
    wait: called while another process makes it; to return after a moment.

    A process that dies lets go of its lock, and what it began is made anew. Where a file system has no locks, two may
    make the same: the first one to rename it wins.
    """
    home.parent.mkdir(parents=True, exist_ok=True)
    while not home.is_dir():
        with _lock(home.with_name(f"{home.name}.lock")) as is_ours:
            if is_ours and not home.is_dir():
                _make(home, make)
        if not is_ours:
            wait()
    return home


def _make(home: Path, make: Callable[[Path], Path]) -> None:
    temporary = home.with_name(f".{home.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        made = make(temporary)
        try:
            made.rename(home)
        except OSError:
            if not home.is_dir():
                raise
        sync(home.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _lock(path: Path) -> Iterator[bool]:
    """Whether it is ours until the end of the block."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # no locks here
            pass
        yield True
