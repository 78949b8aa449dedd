"""A checkpoint that has no room on the disk waits for it; nothing else is waited for."""

import errno
import shutil
from pathlib import Path

import pytest
import torch

from hpo.training.checkpoint import SPARE, save_tensors, when_there_is_room


class Enough(Exception):  # noqa: N818
    """The test has seen it wait."""


def test_a_checkpoint_waits_until_there_is_room(tmp_path: Path) -> None:
    waited = 0

    def wait() -> None:
        nonlocal waited
        waited += 1
        if waited == 3:
            raise Enough

    with pytest.raises(Enough):
        when_there_is_room(tmp_path / "new", 2 * shutil.disk_usage(tmp_path).free, lambda: tmp_path, wait)
    assert when_there_is_room(tmp_path / "new", 1, lambda: tmp_path, wait) == tmp_path
    assert waited == 3
    assert SPARE > 0


def test_a_disk_that_fills_up_meanwhile_is_waited_for_and_one_that_breaks_is_not(tmp_path: Path) -> None:
    numbers = iter([errno.ENOSPC, errno.EDQUOT, 0, errno.EIO])
    waited = []

    def write() -> Path:
        if number := next(numbers):
            raise OSError(number, "as the system says")
        return tmp_path

    assert when_there_is_room(tmp_path, 1, write, lambda: waited.append(1)) == tmp_path
    assert len(waited) == 2
    with pytest.raises(OSError, match="as the system says"):
        when_there_is_room(tmp_path, 1, write, lambda: waited.append(1))


def test_what_safetensors_says_of_the_disk_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_tensors({"part": torch.zeros(1)}, tmp_path / "none" / "here.safetensors")
