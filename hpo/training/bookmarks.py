"""The folder in which running trials write down where they are, so that one that is cut off can go on from there.

Owns names, the writing of whole files, signs of life, and what is removed when. A bookmark is a manifest and the file
of tensors that it names: the manifest is replaced last, so that it never names half of one. Must not know what the
tensors are. Loads no torch.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hpo.durable import sync
from hpo.errors import DamagedBookmarkError
from hpo.records import Record, Report, TrialConfig
from hpo.space import Scalar
from hpo.training.pretrained import sha256

FOLDER = "running"
"""In a study's folder, where all machines see it."""

ROOM = 256_000_000
"""Bytes that are left free on the disk, beside a checkpoint: whoever waits for room to write one must not wait for
bookmarks, which go only when trials end."""

PULSE_SECONDS = 2.0
"""Between two signs of life on the disk."""


class Said(Record):
    """A report that was given before the bookmark."""

    step: int
    progress: float
    metrics: dict[str, float]

    @classmethod
    def of(cls, report: Report) -> "Said":
        return cls(step=report.step, progress=report.progress, metrics=dict(report.metrics))

    def again(self, notes: tuple[str, ...] = ()) -> Report:
        return Report(self.step, self.progress, self.metrics, notes=notes)


class BestSoFar(Record):
    """The best evaluation before the bookmark; its weights are among the tensors."""

    step: int
    metrics: dict[str, float]
    architecture: dict[str, Any]
    params: dict[str, Scalar]


class Bookmark(Record):
    """Where a trial is, between two optimiser steps.

    of: digest of all that its training depends on. seen, seconds: rows and time since the last evaluation; trained:
    seconds of training before it; elapsed: seconds since the trial began. params, source: those in force, and whose
    weights it trains (population). file, sha256: of the tensors.
    """

    of: str
    step: int
    seen: int
    seconds: float
    trained: float
    elapsed: float
    reports: tuple[Said, ...]
    best: BestSoFar | None
    params: dict[str, Scalar]
    source: int
    file: str = ""
    sha256: str = ""


def digest_of(config: TrialConfig, labels: Sequence[str]) -> str:
    """Of what makes two trainings the same; how many rows they take at a time is not among it. labels: in the order of
    their ids."""
    parts = {
        "labels": [*labels],
        "trial": config.name,
        "params": dict(config.params),
        "seeds": [config.seeds.init, config.seeds.order],
        "rungs": config.rungs,
        "schedule": [[progress, dict(values)] for progress, values in config.schedule],
        "population": config.population is not None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Bookmarks:
    """The bookmarks and pulses in `folder`, by the names of trials."""

    folder: Path

    def write(self, name: str, mark: Bookmark, size: int, save: Callable[[Path], None], spare: int = 0) -> bool:
        """Keep a bookmark in place of the one before. size: bytes of the tensors, which `save` writes to a path. spare:
        bytes that have to be left for the checkpoint that comes in the end.

        False where the disk has no room for it: the one before stays then.
        """
        data = self.folder / f"{name}.{mark.step}.safetensors"
        temporary = self.folder / f".{data.name}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < size + spare + ROOM:
                return False
            save(temporary)
            sync(temporary)
            mark = mark.model_copy(update={"file": data.name, "sha256": sha256(temporary)})
            temporary.rename(data)
            self._put(name, mark)
        except OSError:
            data.unlink(missing_ok=True)
            return False
        finally:
            temporary.unlink(missing_ok=True)
        for older in self._data(name):
            if older != data:
                older.unlink(missing_ok=True)
        return True

    def read(self, name: str, of: str) -> tuple[Bookmark, Path] | None:
        """The bookmark of a trial and its file, verified; None where there is none of this very training.

        Raises DamagedBookmarkError; what is damaged is set aside before.
        """
        try:
            mark = Bookmark.model_validate_json(self._manifest(name).read_text("utf-8"))
            data = self.folder / mark.file
            if mark.of != of:
                self.remove(name)
                return None
            if sha256(data) != mark.sha256:
                raise DamagedBookmarkError(f"{data.name} differs from its manifest")
        except FileNotFoundError as error:
            if error.filename == str(self._manifest(name)):
                return None
            self._set_aside(name)
            raise DamagedBookmarkError(f"{Path(error.filename).name} is missing") from error
        except DamagedBookmarkError:
            self._set_aside(name)
            raise
        except (ValidationError, OSError, ValueError) as error:
            self._set_aside(name)
            raise DamagedBookmarkError(f"its manifest can't be read ({type(error).__name__})") from error
        return mark, data

    def remove(self, name: str) -> None:
        """All that there is of a trial, once it has ended."""
        self._manifest(name).unlink(missing_ok=True)
        for path in [*self._data(name), self.pulse(name), *self.folder.glob(f"{name}.*.damaged")]:
            path.unlink(missing_ok=True)

    def litter(self, names: Iterable[str]) -> list[Path]:
        """What belongs to none of these trials, and half-written files. Of a folder in which no trial runs."""
        wanted = set(names)
        return [path for path in sorted(self.folder.glob("*")) if path.name.split(".")[0] not in wanted]

    def keep(self, names: Iterable[str]) -> None:
        """Remove all but what belongs to these trials. Only while no trial runs."""
        for path in self.litter(names):
            path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()

    def pulse(self, name: str) -> Path:
        """The file that a trial touches as long as its steps go on."""
        return self.folder / f"{name}.pulse"

    def _set_aside(self, name: str) -> None:
        for path in [self._manifest(name), *self._data(name)]:
            with suppress(OSError):
                path.rename(path.with_name(f"{path.name}.damaged"))

    def _put(self, name: str, mark: Bookmark) -> None:
        temporary = self.folder / f".{name}.json.{os.getpid()}"
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(mark.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._manifest(name))
            sync(self.folder)
        finally:
            temporary.unlink(missing_ok=True)

    def _manifest(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _data(self, name: str) -> list[Path]:
        return [*self.folder.glob(f"{name}.*.safetensors")]


@dataclass
class Pulse:
    """Says that a trial is alive by touching a file; called at every batch, so that a step that hangs says nothing.

    Whoever looks compares what the file system says with what it said before: clocks of machines may differ.
    """

    path: Path | None
    _touched: float = field(default=0.0, init=False)

    def __call__(self) -> None:
        now = time.monotonic()
        if self.path is None or now - self._touched < PULSE_SECONDS:
            return
        self._touched = now
        with suppress(OSError):  # a full disk is no reason to end a trial
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
