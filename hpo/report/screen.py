"""What a person sees while a study runs: a live table in a terminal, one plain line an event anywhere else.

Fed with the events that trackers get, in the process that drives the study. Must not know who makes them.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, Self, TextIO, TypeAlias

from hpo.records import (
    AnyEvent,
    StudyStarted,
    StudyStopped,
    TrialConfirmed,
    TrialFinished,
    TrialNoted,
    TrialRecord,
    TrialState,
)
from hpo.report import race, words
from hpo.report.board import Board, Budget, Row

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

Advance: TypeAlias = Callable[[int], None]
"""Called with how many more are done."""

CHROME = 7
"""Lines around the trials: the header (two where it wraps), the table's head, the note under it, the cursor."""

GAP = 3
"""Columns between two columns of the live table."""

PROGRESS_EVERY = 5.0
"""Seconds between two plain lines of one progress."""


class Screen(Protocol):
    """Open as a context: leaving it gives the terminal back, whatever happened."""

    def apply(self, event: AnyEvent) -> None: ...

    def say(self, text: str) -> None:
        """Print lines that stay."""

    def progress(self, label: str, total: int | None) -> AbstractContextManager[Advance]:
        """A bar while something is prepared. total: how many there are, None if nobody knows."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...


def open_screen(
    stream: TextIO | None = None,
    *,
    budget: Budget | None = None,
    varying: Sequence[str] = (),
    rungs: Sequence[float] = (),
    known: Iterable[TrialRecord] = (),
    environment: Mapping[str, str] = os.environ,
) -> Screen:
    """The live table where `stream` (standard output) is a terminal that can move its cursor, else plain lines.

    varying: the params worth a column. rungs: fractions of a trial at which it is compared. known: trials of an
    earlier run of this study.
    """
    stream = stream or sys.stdout
    board = Board(budget or Budget(), known)
    if stream.isatty() and environment.get("TERM", "dumb") not in ("dumb", "unknown"):
        return LiveScreen(stream, board, varying, rungs)
    return PlainScreen(stream, board, varying)


class PlainScreen:
    """`00:42  trial 7  step 126  accuracy 0.7421  (best complete 0.7533, trial 3)`; every line is flushed."""

    def __init__(
        self, stream: TextIO, board: Board, varying: Sequence[str] = (), now: Callable[[], float] = time.time
    ) -> None:
        self._stream, self._board, self._varying, self._now = stream, board, varying, now
        self._opened = now()

    def apply(self, event: AnyEvent) -> None:
        row = self._board.apply(event)
        if isinstance(event, StudyStarted):
            self._line(event.time, _opening(event, self._board))
        elif isinstance(event, StudyStopped):
            self._line(event.time, _stopped(event))
        elif isinstance(event, TrialNoted):
            self._line(event.time, _note(event))
        elif isinstance(event, TrialConfirmed):
            self._line(event.time, race.confirmed_line(event.confirmed, self._board.metric))
        elif row is not None and row.replicate:
            self._line(event.time, race.run_line(row, self._board, ended=isinstance(event, TrialFinished)))
        elif row is not None:
            ended = isinstance(event, TrialFinished)
            self._line(event.time, self._of_finished(row) if ended else self._of_running(row))

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Advance]:
        done, said = 0, self._now()
        goal = f" of {total:,}" if total is not None else ""

        def advance(more: int) -> None:
            nonlocal done, said
            done += more
            if self._now() - said >= PROGRESS_EVERY:
                said = self._now()
                self._line(said, f"{label}  {done:,}{goal}")

        self._line(said, label)
        yield advance
        self._line(self._now(), f"{label}  {done:,}{goal}, done")

    def close(self) -> None:
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _line(self, moment: float, text: str) -> None:
        print(f"{words.clock(moment - self._opened)}  {text}", file=self._stream, flush=True)

    def _of_running(self, row: Row) -> str:
        if row.value is None:
            params = words.short_params(row.params, self._varying)
            return f"trial {row.number:<4} {'started':<10} {params}  ({row.origin})"
        return f"trial {row.number:<4} {f'step {row.step}':<10} {self._value(row)}{self._best()}"

    def _of_finished(self, row: Row) -> str:
        reason = f"  {words.brief(row.reason)}" if row.reason else ""
        return f"trial {row.number:<4} {row.state:<10} {self._value(row)}{self._best()}{reason}"

    def _value(self, row: Row) -> str:
        return f"{self._board.metric} {words.metric_value(row.value):<6}"

    def _best(self) -> str:
        best = self._board.best
        return f"  (best complete {words.metric_value(best.value)}, trial {best.number})" if best else ""


class LiveScreen:
    """A table that never grows past the terminal: trials that run first, then the best of those that finished."""

    def __init__(
        self,
        stream: TextIO,
        board: Board,
        varying: Sequence[str] = (),
        rungs: Sequence[float] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._board, self._varying, self._rungs, self._now = board, varying, rungs, now
        self._lock = threading.Lock()  # rich renders in a thread of its own
        self.console = Console(file=stream, highlight=False, markup=False, soft_wrap=False)
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self._live = Live(get_renderable=self._render, console=self.console, refresh_per_second=4)
        self._live.start()

    def apply(self, event: AnyEvent) -> None:
        with self._lock:
            self._board.apply(event)
        if isinstance(event, StudyStarted):
            self.say(_opening(event, self._board))
        elif isinstance(event, StudyStopped):
            self.say(_stopped(event))
        elif isinstance(event, TrialNoted):
            self.say(_note(event))
        elif isinstance(event, TrialFinished) and event.state is TrialState.FAILED:
            self.say(f"trial {_run(event)} failed: {words.brief(event.reason or 'no reason given')}")
        elif isinstance(event, TrialConfirmed):
            self.say(race.confirmed_line(event.confirmed, self._board.metric))

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)

    @contextlib.contextmanager
    def progress(self, label: str, total: int | None) -> Iterator[Advance]:
        task = self._bars.add_task(label, total=total)
        try:
            yield lambda more: self._bars.advance(task, more)
        finally:
            self._bars.remove_task(task)

    def close(self) -> None:
        self._live.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _render(self) -> "Group":
        from rich.console import Group

        with self._lock:
            parts: list[RenderableType] = [self._header(), self._table()] if self._board.study else []
        if self._bars.tasks:
            parts.append(self._bars)
        return Group(*parts)

    def _header(self) -> str:
        board, now = self._board, self._now()
        goal = f" of {board.budget.trials}" if board.budget.trials is not None else ""
        if board.is_confirming:
            parts = [board.study, *race.header(board)]
        else:
            parts = [board.study, f"{len(board.finished)}{goal} trials"]
        best = None if board.is_confirming else board.best
        if best is not None:
            parts.append(f"best {board.metric} {words.metric_value(best.value)} (trial {best.number})")
        if board.started is not None:
            parts.append(f"elapsed {words.clock(now - board.started)}")
        left = board.seconds_left(now)
        if left is not None and board.running and board.stopped is None:
            parts.append(f"about {words.duration(left)} left")
        return "  ".join(parts)

    def _table(self) -> "Table":
        from rich import box
        from rich.table import Table

        height = self.console.height - CHROME - len(self._bars.tasks)
        if self._board.is_confirming:
            names = self._fitting([own.trial for own in self._board.leaders], race.WIDTHS)
            return race.table(self._board, names, height)
        rows = self._visible(height)
        steps = max([len("step"), *(len(str(row.step)) for row in rows)])
        others = [len("trial"), len("100 %"), steps, max(len(self._board.metric), 6), len("complete")]
        names = self._fitting(rows, others)
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("trial", justify="right", no_wrap=True)
        for name in names:
            table.add_column(words.short_name(name), justify="right", no_wrap=True)
        table.add_column("rung" if self._rungs else "done", justify="right", no_wrap=True)
        table.add_column("step", justify="right", no_wrap=True)
        table.add_column(self._board.metric, justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True)
        for row in rows:
            cells = [_param(row, name) for name in names]
            value = words.metric_value(row.value)
            table.add_row(
                str(row.number), *cells, self._progress(row), str(row.step), value, self._state(row), style=_style(row)
            )
        hidden = len(self._board.rows) - len(rows)
        notes = [words.count(hidden, "trial")] if hidden else []
        if len(names) < len(self._varying):
            notes.append(words.count(len(self._varying) - len(names), "param"))
        if notes:
            table.caption = f"not shown: {', '.join(notes)}"
            table.caption_justify = "left"
        return table

    def _visible(self, height: int) -> list[Row]:
        most = max(height, 1)
        return [*self._board.running, *self._board.finished[:most]][:most]

    def _fitting(self, rows: Sequence[Row], others: Sequence[int]) -> list[str]:
        """As many params as the width holds beside the `others`, in the order of the space file."""
        left = self.console.width - sum(others) - GAP * (len(others) - 1)
        names = []
        for name in self._varying:
            left -= GAP + max([len(words.short_name(name)), *(len(_param(row, name)) for row in rows)])
            if left < 0:
                break
            names.append(name)
        return names

    def _progress(self, row: Row) -> str:
        if row.progress is None:
            return ""
        if self._rungs:
            return f"{sum(row.progress + 1e-9 >= rung for rung in self._rungs)}/{len(self._rungs)}"
        return f"{100 * row.progress:.0f} %"

    def _state(self, row: Row) -> str:
        best = self._board.best
        return "best" if best is not None and best.number == row.number else str(row.state)


def _opening(event: StudyStarted, board: Board) -> str:
    """`study x: accuracy (max), 16 trials; rows: train 4,000, validation 500`"""
    rows = ", ".join(f"{data.split} {data.rows:,}" for data in event.datasets)
    trials = f", {words.count(board.budget.trials, 'trial')}" if board.budget.trials is not None else ""
    known = f", {len(board.finished)} of them done before" if board.finished else ""
    return f"study {event.study}: {event.metric} ({event.mode}){trials}{known}" + (f"; rows: {rows}" if rows else "")


def _stopped(event: StudyStopped) -> str:
    return f"stopped: {event.reason}; go on with --resume"


def _run(event: TrialFinished | TrialNoted) -> str:
    return f"{event.number} seed {event.replicate}" if event.replicate else str(event.number)


def _note(event: TrialNoted) -> str:
    return f"trial {_run(event)}: {event.text}"


def _param(row: Row, name: str) -> str:
    return words.short_value(row.params[name]) if name in row.params else ""


def _style(row: Row) -> str:
    """Faint for what is out of the race; the state's word says the same without colours."""
    if row.state in (TrialState.PRUNED, TrialState.FAILED):
        return "dim"
    return "cyan" if row.state is TrialState.RUNNING else ""
