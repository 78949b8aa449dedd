"""Folders for what a runner needs while it runs. Whoever comes next removes those of a driver that was killed.

A folder is in use while somebody holds the lock in it, which ends with its process, however that ends. Must not know
what is in a folder.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LOCK = ".in-use"
_BEING_MADE = 60.0
"""Seconds that a folder may be without its lock."""


@contextmanager
def scratch(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """A new folder, removed in the end. parent: None takes the one for temporary files."""
    place = parent or Path(tempfile.gettempdir())
    sweep(place, prefix)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=place))
    try:
        with open(folder / _LOCK, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(place: Path, prefix: str) -> None:
    """Remove the folders of that name that nobody uses any more."""
    for folder in place.glob(f"{prefix}*"):
        with suppress(OSError):  # somebody else's, or gone meanwhile
            if not (folder / _LOCK).exists():
                if folder.is_dir() and time.time() - folder.stat().st_mtime > _BEING_MADE:
                    folder.rmdir()  # only where nothing is in it: it may not be of this program
                continue
            with open(folder / _LOCK, "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
