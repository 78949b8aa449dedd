"""The spool: events go to a file at once, and from there to a tracker in a thread of its own.

Owns `events.jsonl`, a study's log that people can read, and `mlflow.cursor`, how much of it the tracker has applied.
Whoever appends never waits for the tracker. Must not know which tracker it feeds.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hpo import crash
from hpo.durable import replacing
from hpo.errors import ServiceError
from hpo.records import AnyEvent, StudyStarted
from hpo.tracking import ReplayNeededError, Tracker

EVENTS = "events.jsonl"
CURSOR = "mlflow.cursor"
_PAUSES = (0.5, 15.0)
_SAVE_EVERY = 1.0

_event: TypeAdapter[AnyEvent] = TypeAdapter(AnyEvent)


class Spool:
    """A study's events, kept in `folder`. One at a time per folder: whoever opens it holds the study's lock.

    A line that a crash left half-written is cut off at the start. What was not sent goes out the next time.
    """

    def __init__(self, folder: Path, tracker_factory: Callable[[], Tracker]) -> None:
        self._factory = tracker_factory
        self._cursor_file = folder / CURSOR
        self._path = folder / EVENTS
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._end = _cut_partial_line(self._file)
        self._cursor = _read_cursor(self._cursor_file, self._path, self._end)
        self._saved = self._cursor
        self._waiting = _count_lines(self._path, self._cursor)
        self._trouble: str | None = None
        self._closing = False
        self._hurry = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._feed, name="spool", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str | None:
        """Why the tracker did not take the event that is next; None while all goes well."""
        return self._trouble

    @property
    def behind(self) -> int:
        """How many events wait for the tracker."""
        return self._waiting

    def append(self, event: AnyEvent) -> None:
        """Write one line. Takes microseconds, whatever the tracker does. Raises ServiceError if the disk is full."""
        line = event.model_dump_json().encode() + b"\n"
        with self._changed:
            if self._closing:
                raise ValueError(f"{self._path} is closed; append before close()")
            try:
                written = os.write(self._file, line)
            except OSError as error:
                raise ServiceError(
                    f"{self._path}: {error.strerror}; free some space and go on with --resume"
                ) from error
            if written < len(line):
                os.ftruncate(self._file, self._end)
                raise ServiceError(f"{self._path}: no space left on device; free some and go on with --resume")
            self._end += len(line)
            self._waiting += 1
            self._changed.notify_all()

    def events(self) -> Iterator[AnyEvent]:
        """Everything that was ever appended, in order."""
        for _, event in _lines(self._path, 0, self._end):
            yield event

    def flush(self, timeout: float) -> bool:
        """Wait until the tracker has applied everything, `timeout` seconds at most; whether it has."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._waiting == 0, timeout)

    def close(self, timeout: float) -> bool:
        """Flush, then let the tracker go. False: some events stay behind in the file until the next open."""
        with self._changed:
            if self._closing:
                return self._waiting == 0
        flushed = self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(1.0 if flushed else 0.1)  # it may hang in a request: it is a daemon
        os.close(self._file)
        return flushed

    def _feed(self) -> None:
        """The thread: apply the event at the cursor, again and again until the tracker has taken it."""
        tracker: Tracker | None = None
        reminded = False
        pause = _PAUSES[0]
        last_save = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting > 0 or self._closing)
                if self._closing:
                    break
                end = self._end
            try:
                if tracker is None:
                    tracker = self._factory()
                if not reminded:
                    self._remind(tracker)
                    reminded = True
                for cursor, event in _lines(self._path, self._cursor, end):
                    tracker.apply(event)
                    pause = _PAUSES[0]
                    with self._changed:
                        self._cursor = cursor
                        self._waiting -= 1
                        self._trouble = None
                        self._changed.notify_all()
                        if self._closing:
                            break
                    if time.monotonic() - last_save > _SAVE_EVERY:
                        self._save_cursor()
                        last_save = time.monotonic()
                self._save_cursor()
            except Exception as error:  # the fan-out: a mirror that fails must not stop the study; `trouble` says so
                if isinstance(error, ReplayNeededError) and self._cursor > 0:
                    self._rewind()
                    continue
                reminded = False
                with self._changed:
                    self._trouble = str(error) or type(error).__name__
                    self._changed.wait_for(lambda: self._closing or self._hurry, pause)
                    self._hurry = False
                pause = min(pause * 2, _PAUSES[1])
        with suppress(OSError):  # a full disk: what the tracker has it is told once more, and nothing changes
            self._save_cursor()
        if tracker is not None:
            tracker.close()

    def _remind(self, tracker: Tracker) -> None:
        """A tracker that goes on in the middle is told first how the study had started."""
        started, is_next = None, True
        for cursor, event in _lines(self._path, 0, self._end):
            is_start, comes = isinstance(event, StudyStarted), cursor > self._cursor
            if comes and is_next and is_start:
                return
            started = event if is_start else started
            is_next = is_next and not comes
            if comes and started is not None:
                break
        if started is not None:
            tracker.apply(started)

    def _rewind(self) -> None:
        """Send everything again: the store has lost it, or is another one than before."""
        with self._changed:
            self._cursor = 0
            self._waiting = _count_lines(self._path, 0)
        self._save_cursor()

    def _save_cursor(self) -> None:
        cursor = self._cursor
        if cursor == self._saved:
            return
        crash.at("mirror-cursor")
        with replacing(self._cursor_file) as stream:
            stream.write(b"%d\n" % cursor)
        self._saved = cursor


def _lines(path: Path, start: int, end: int) -> Iterator[tuple[int, AnyEvent]]:
    """Events between two byte offsets, each with the offset after it. Raises ServiceError at a line that is none."""
    with open(path, "rb") as stream:
        stream.seek(start)
        while start < end:
            line = stream.readline()
            start += len(line)
            try:
                event = _event.validate_json(line)
            except ValidationError as error:
                raise ServiceError(
                    f"{path}: {line[:80]!r} before byte {start} is no event; delete that line and go on with --resume"
                ) from error
            yield start, event


def _count_lines(path: Path, start: int) -> int:
    with open(path, "rb") as stream:
        stream.seek(start)
        return sum(1 for _ in stream)


def _cut_partial_line(file: int) -> int:
    """Cut what follows the last line end; the size that is left."""
    size = os.lseek(file, 0, os.SEEK_END)
    end = size
    while end > 0:
        block = os.pread(file, min(end, 65_536), max(0, end - 65_536))
        found = block.rfind(b"\n")
        end = max(0, end - 65_536) + found + 1 if found >= 0 else max(0, end - 65_536)
        if found >= 0:
            break
    if end < size:
        os.ftruncate(file, end)
    return end


def _read_cursor(file: Path, events: Path, end: int) -> int:
    """Where the tracker goes on; the start, if the cursor does not point behind a line of this file."""
    try:
        cursor = int(file.read_text("ascii"))
    except (FileNotFoundError, ValueError):
        return 0
    if not 0 < cursor <= end:
        return 0
    with open(events, "rb") as stream:
        stream.seek(cursor - 1)
        return cursor if stream.read(1) == b"\n" else 0


@dataclass(frozen=True, slots=True)
class Log:
    """What lies in a study's folder. wrong: a line that is no event, and what to do about it; events: those before it.
    torn: bytes of a last line that a crash cut off. waiting: events that the tracker has not applied."""

    events: tuple[AnyEvent, ...]
    waiting: int = 0
    torn: int = 0
    wrong: str | None = None


def read_log(folder: Path) -> Log:
    """The events as they lie there; nothing is changed. Without a file there are none."""
    path = folder / EVENTS
    if not path.is_file():
        return Log(())
    with open(path, "rb") as stream:
        whole = stream.read()
    end = whole.rfind(b"\n") + 1
    cursor = _read_cursor(folder / CURSOR, path, end)
    events: list[AnyEvent] = []
    try:
        for _, event in _lines(path, 0, end):
            events.append(event)
    except ServiceError as error:
        return Log(tuple(events), wrong=str(error))
    return Log(tuple(events), whole.count(b"\n", cursor), len(whole) - end)
