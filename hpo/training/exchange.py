"""The folder through which the trials of a population hand their states to each other.

A trial leaves its state at every level before it reports, and looks for an instruction after the report was answered;
the search writes instructions and removes states. Owns names and the writing of whole files, so that nobody ever reads
half of one. Must not know what a state holds, or who decides. Loads no torch.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpo.durable import sync
from hpo.errors import TrialError
from hpo.records import Exploit
from hpo.space import Scalar

_PARTS = 1_000_000
_STATE = re.compile(r"trial-(\d+)-(\d+)\.state")
_ROOM = 256_000_000
"""Bytes that are left free on the disk, for the ledger and for checkpoints."""


@dataclass(frozen=True)
class Exchange:
    """Places are (trial, level); levels are told apart by millionths."""

    folder: Path

    def state(self, number: int, level: float) -> Path:
        return self.folder / f"{_name(number, level)}.state"

    @contextmanager
    def leaving(self, number: int, level: float, size: int) -> Iterator[Path]:
        """Write a state of about `size` bytes to the path given; after the block it is there, whole.

        Raises TrialError where the disk has no room for it; nothing is left behind then.
        """
        place = self.state(number, level)
        temporary = self.folder / f".{place.name}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            if free < size + _ROOM:
                raise TrialError(
                    f"the trial's state needs {size / 1e6:,.0f} MB, and {self.folder} has {free / 1e6:,.0f} MB free; "
                    "make room, or lower search.scheduler.max_sources or intervals"
                )
            yield temporary
            sync(temporary)
            temporary.rename(place)
            sync(self.folder)
        except OSError as error:
            raise TrialError(f"the trial's state can't be written ({error}); look at the disk") from error
        finally:
            temporary.unlink(missing_ok=True)

    def tell(self, number: int, level: float, exploit: Exploit) -> None:
        """Write down what the trial is to do after its report at this level. OSError."""
        place = self._instruction(number, level)
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        self.folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump({"source": exploit.source, "params": dict(exploit.params)}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(place)

    def told(self, number: int, level: float) -> Exploit | None:
        """The instruction for this level; None: go on as before."""
        try:
            found: dict[str, object] = json.loads(self._instruction(number, level).read_text("utf-8"))
        except FileNotFoundError:
            return None
        source, params = found["source"], found["params"]
        assert isinstance(source, int)
        assert isinstance(params, Mapping)
        return Exploit(source, _scalars(params))

    def states(self) -> dict[tuple[int, int], Path]:
        """All that are there, by trial and millionths of the level."""
        found = {}
        for path in self.folder.glob("*.state"):
            if match := _STATE.fullmatch(path.name):
                found[int(match[1]), int(match[2])] = path
        return found

    def keep(self, wanted: Iterable[tuple[int, float]]) -> None:
        """Remove every state that is not in one of these places."""
        places = {(number, parts(level)) for number, level in wanted}
        for place, path in self.states().items():
            if place not in places:
                path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what a crash left: files half written, and instructions, which are given again where they hold.
        Only while no trial runs."""
        for path in self.folder.glob("*"):
            if not _STATE.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _instruction(self, number: int, level: float) -> Path:
        return self.folder / f"{_name(number, level)}.json"


def parts(level: float) -> int:
    """A level in millionths."""
    return round(level * _PARTS)


def _name(number: int, level: float) -> str:
    return f"trial-{number:04d}-{parts(level)}"


def _scalars(values: Mapping[str, object]) -> dict[str, Scalar]:
    return {name: value for name, value in values.items() if isinstance(value, bool | int | float | str)}
