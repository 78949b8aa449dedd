"""Encoded splits on disk: made once per study, mapped by every trial of a machine.

A folder is complete when it has its name: it is written beside it and renamed, so that several processes may make
the same one at a time. Must not know what encodes.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.data.loading import Splits
from hpo.durable import sync
from hpo.encoded import Encoded
from hpo.errors import ServiceError

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class EncodedSplits:
    """Where the encoded splits lie; read them with `Encoded.load`.

    search: the folder of train.arrow and validation.arrow, all that a trial may see. test: the file of the test rows.
    """

    search: Path
    test: Path | None

    @property
    def train(self) -> Path:
        return self.search / "train.arrow"

    @property
    def validation(self) -> Path:
        return self.search / "validation.arrow"


def encode_splits(
    splits: Splits, encode: "Callable[[pa.Table], Encoded]", *, cache: Path, key: Mapping[str, str]
) -> EncodedSplits:
    """Encode what the cache does not hold yet, under `<cache>/<sha256 of key>/`.

    key: all that the result follows from (digests of data and tokenizer, the task).
    Errors: ServiceError where the cache cannot be written, and whatever `encode` raises.
    """
    home = home_of(cache, key)
    if not home.is_dir():
        with _own_folder(home) as folder:
            for split, table in splits.tables.items():
                encode(table).save(_place(folder, split))
    return EncodedSplits(home / "search", None if splits.test is None else _place(home, "test"))


def home_of(cache: Path, key: Mapping[str, str]) -> Path:
    """The folder that holds what follows from `key`, once it is made."""
    return cache / hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()


def _place(folder: Path, split: str) -> Path:
    path = folder / ("test" if split == "test" else "search") / f"{split}.arrow"
    path.parent.mkdir(exist_ok=True)
    return path


@contextmanager
def _own_folder(home: Path) -> Iterator[Path]:
    """A folder to fill; it becomes `home` when the block ends, unless another process was first."""
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        folder = home.parent / f".{home.name[:16]}.{uuid.uuid4().hex}"
        folder.mkdir()  # by the umask, where a temporary folder is for one user: several may share a cache
        try:
            yield folder
            for part in (folder, *folder.iterdir()):
                sync(part)
            with _unless_there(home):
                folder.rename(home)
                sync(home.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ServiceError(
            f"{home.parent}: cannot write there ({error.strerror or error}); free or change it"
        ) from error


@contextmanager
def _unless_there(home: Path) -> Iterator[None]:
    """A rename that fails because another process has made the folder meanwhile is as good as one's own."""
    try:
        yield
    except OSError:
        if not home.is_dir():
            raise
