"""What is on the disk to stay. Must not know what is written."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """A file outlasts a power failure; of a folder, the names in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
