"""Room on the disk: a study whose disk is full waits, says so, and goes on by itself once there is room.

Owns how much has to be free for what, and the waiting. Must not know what is written.
"""

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpo.records import Failure, Report, TrialConfig, Verdict
from hpo.runners import Search
from hpo.training.checkpoint import SPARE

LEDGER_BYTES = 16_000_000
"""Free bytes that the ledger and the log have to find for what a trial says; SQLite's own log is 4 MB."""

LOOK_SECONDS = 2.0


@dataclass
class Room:
    """checkpoint: bytes of the next one that a trial may write. say: for a person."""

    folder: Path
    checkpoint: int
    say: Callable[[str], None]
    look_seconds: float = LOOK_SECONDS
    _is_short: bool = field(default=False, init=False)
    _saying: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def free(self) -> int:
        """Bytes."""
        return shutil.disk_usage(self.folder).free

    def wait(self, needed: int, is_over: Callable[[], bool]) -> bool:
        """Until so many bytes are free; False once `is_over`."""
        while self.free < needed:
            self.look()
            if is_over():
                return False
            time.sleep(self.look_seconds)
        return not is_over()

    def wait_for_checkpoint(self, is_over: Callable[[], bool]) -> bool:
        found = self.wait(self.checkpoint + SPARE, is_over)
        self.look()
        return found

    def look(self) -> None:
        """Say it, once, where there is too little room, and where there is enough again."""
        with self._saying:
            free, needed = self.free, self.checkpoint + SPARE
            is_short = free < needed
            if is_short and not self._is_short:
                self.say(
                    f"the disk is full: {self.folder.absolute()} has {free / 1e6:,.0f} MB free, and a checkpoint needs "
                    f"{needed / 1e6:,.0f} MB; the search waits until there is room, nothing is lost"
                )
            elif self._is_short and not is_short:
                self.say(f"there is room again ({free / 1e6:,.0f} MB free); the search goes on")
            self._is_short = is_short

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look every few seconds: trials wait for room by themselves, and then nobody asks for the next one."""
        left = threading.Event()

        def look() -> None:
            while not left.wait(self.look_seconds):
                with suppress(OSError):
                    self.look()

        thread = threading.Thread(target=look, name="room", daemon=True)
        thread.start()
        try:
            yield
        finally:
            left.set()
            thread.join()


@dataclass(frozen=True)
class WaitingForRoom:
    """Implements `runners.Search`: the same search, which is asked and told only while the disk has room for it.

    A search that is stopped while it waits is told no more: its trials stay unfinished, and go on with the next resume.
    """

    search: Search
    room: Room

    @property
    def stopping(self) -> bool:
        return self.search.stopping

    @property
    def exhausted(self) -> bool:
        return self.search.exhausted

    def ask(self) -> TrialConfig | None:
        return self.search.ask() if self.room.wait_for_checkpoint(self._is_over) else None

    def report(self, number: int, report: Report) -> Verdict:
        if not self._can_write():
            return Verdict.STOP
        return self.search.report(number, report)

    def failed(self, number: int, failure: Failure) -> None:
        if self._can_write():
            self.search.failed(number, failure)

    def _can_write(self) -> bool:
        return self.room.free >= LEDGER_BYTES or self.room.wait(LEDGER_BYTES, self._is_over)

    def _is_over(self) -> bool:
        return self.search.stopping
