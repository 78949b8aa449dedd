"""What the events of a study add up to: one row a trial, the best so far, the time left. Knows no terminal."""

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, assert_never

from hpo.records import (
    BASELINE,
    AnyEvent,
    Confirmed,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    TrialConfirmed,
    TrialDropped,
    TrialFinished,
    TrialNoted,
    TrialRecord,
    TrialReported,
    TrialStarted,
    TrialState,
)
from hpo.space import Scalar


@dataclass(frozen=True, slots=True)
class Budget:
    """Whichever is used up first ends the study. seconds: wall time of this run. epochs: over all trials.

    seeds: fresh ones a leader in the confirmation, which is beside the budget; None where there is none.
    """

    trials: int | None = None
    seconds: float | None = None
    epochs: float | None = None
    seeds: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One trial. value: the latest while it runs, the best once it has finished. progress: 0 to 1, None if unsaid.

    earlier: it had finished before this run began. replicate: of the run over fresh seeds that this is; 0 for a trial.
    """

    number: int
    origin: str
    params: Mapping[str, Scalar]
    state: TrialState = TrialState.RUNNING
    step: int = 0
    progress: float | None = None
    epoch: float = 0.0
    value: float | None = None
    reason: str | None = None
    earlier: bool = False
    replicate: int = 0


@dataclass(frozen=True, slots=True)
class Leader:
    """One candidate of the confirmation. trial: its row in the search. values: of its finished runs, but for those that
    the default has run ahead of all others. running: those under way. confirmed: what the fresh seeds say of it, once
    that is final."""

    trial: Row
    values: tuple[float, ...]
    running: tuple[Row, ...]
    failed: int
    confirmed: Confirmed | None

    @property
    def mean(self) -> float | None:
        if self.confirmed is not None:
            return self.confirmed.mean
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def is_out(self) -> bool:
        if self.confirmed is not None:
            return self.confirmed.is_out
        return self.failed > 0 and self.trial.origin != BASELINE


@dataclass(frozen=True, slots=True)
class _Pace:
    """Of the trials that have finished. ended, epochs: in this run. all_epochs: with those of earlier ones."""

    ended: int = 0
    epochs: float = 0.0
    all_epochs: float = 0.0

    def moved(self, row: Row, sign: int) -> "_Pace":
        here = 0 if row.earlier else sign
        return _Pace(self.ended + here, self.epochs + here * row.epoch, self.all_epochs + sign * row.epoch)


class Board:
    """The state of a screen. `known`: trials that had finished before this run, from the ledger."""

    def __init__(self, budget: Budget, known: Iterable[TrialRecord] = ()) -> None:
        self.budget = budget
        self.study = ""
        self.metric = ""
        self.mode: Literal["min", "max"] = "max"
        self.started: float | None = None
        self.stopped: str | None = None
        finished = [_row(trial) for trial in known if trial.state.is_finished]
        self.rows: dict[int, Row] = {}
        self._running: dict[int, Row] = {}
        self._ranked: list[Row] = []
        self._pace = _Pace()
        self.runs: dict[tuple[int, int], Row] = {(row.number, row.replicate): row for row in finished if row.replicate}
        self.confirmed: dict[int, Confirmed] = {}
        for row in finished:
            if row.replicate == 0:
                self._put(row)

    def apply(self, event: AnyEvent) -> Row | None:
        """Take the event in; the row that it changed, if it is about a trial."""
        match event:
            case StudyStarted():
                self.study, self.metric, self.mode = event.study, event.metric, event.mode
                self.started, self.stopped = event.time, None
                self._ranked.sort(key=self.rank)
                return None
            case TrialConfirmed():
                self.confirmed[event.confirmed.number] = event.confirmed
                return None
            case TrialStarted():
                row = Row(event.number, event.origin, event.params, replicate=event.replicate)
            case TrialReported():
                row = self._reported(event)
            case TrialFinished():
                row = self._finished(event)
            case StudyStopped():
                self.stopped = event.reason
                return None
            case StudyFinished() | TrialDropped() | TrialNoted():
                return None
            case _:
                assert_never(event)
        if row.replicate:
            self.runs[row.number, row.replicate] = row
        else:
            self._put(row)
        return row

    def _put(self, row: Row) -> None:
        """In the place of what was known of the trial. What a screen asks for four times a second is kept at hand, so
        that nothing goes through thousands of trials."""
        known = self.rows.get(row.number)
        if known is not None and known.state.is_finished:
            del self._ranked[bisect.bisect_left(self._ranked, self.rank(known), key=self.rank)]
            self._pace = self._pace.moved(known, -1)
        self.rows[row.number] = row
        if row.state.is_finished:
            self._running.pop(row.number, None)
            bisect.insort(self._ranked, row, key=self.rank)
            self._pace = self._pace.moved(row, 1)
        else:
            self._running[row.number] = row

    @property
    def finished(self) -> Sequence[Row]:
        """As `rank` sorts them."""
        return self._ranked

    @property
    def running(self) -> Sequence[Row]:
        return [*self._running.values()]

    @property
    def best(self) -> Row | None:
        """The best of the complete trials; the earlier one where two are equal."""
        first = next(iter(self._ranked), None)
        return first if first and first.state is TrialState.COMPLETE and first.value is not None else None

    def rank(self, row: Row) -> tuple[int, float, int]:
        """Sorts complete trials first, then by value, best first; trials without a finite value last."""
        value = row.value if row.value is not None and math.isfinite(row.value) else None
        worth = math.inf if value is None else -value if self.mode == "max" else value
        return (row.state is not TrialState.COMPLETE, worth, row.number)

    @property
    def is_confirming(self) -> bool:
        return any(not row.earlier for row in self.runs.values())

    @property
    def leaders(self) -> Sequence[Leader]:
        """The candidates of the confirmation, the default among them, the best mean first; those that are out last."""
        found, of = [], dict[int, list[Row]]()
        for (number, _), row in sorted(self.runs.items()):
            of.setdefault(number, []).append(row)
        trials = {number: self.rows.get(number) or runs[0] for number, runs in of.items()}
        values = {number: tuple(_values(runs)) for number, runs in of.items()}
        others = [len(values[number]) for number, trial in trials.items() if trial.origin != BASELINE]
        for number, runs in of.items():
            counted = max(2, *others) if others and trials[number].origin == BASELINE else None
            found.append(
                Leader(
                    trial=trials[number],
                    values=values[number][:counted],
                    running=tuple(row for row in runs if row.state is TrialState.RUNNING),
                    failed=sum(row.state is TrialState.FAILED for row in runs),
                    confirmed=self.confirmed.get(number),
                )
            )
        sign = -1.0 if self.mode == "max" else 1.0
        return sorted(
            found,
            key=lambda own: (own.is_out, math.inf if own.mean is None else sign * own.mean, own.trial.number),
        )

    def seconds_left(self, now: float) -> float | None:
        """The time until the budget is used, at the pace of this run; None while there is no pace yet."""
        if self.started is None:
            return None
        elapsed = now - self.started
        under_way = sum(row.progress or 0.0 for row in self.running)
        epochs_under_way = sum(row.epoch for row in self.running)
        ends = []
        trials = self._pace.ended + under_way
        if self.budget.trials is not None and trials:
            ends.append(elapsed / trials * max(self.budget.trials - len(self.finished) - under_way, 0.0))
        epochs = self._pace.epochs + epochs_under_way
        if self.budget.epochs is not None and epochs:
            used = self._pace.all_epochs + epochs_under_way
            ends.append(elapsed / epochs * max(self.budget.epochs - used, 0.0))
        if self.budget.seconds is not None:
            ends.append(max(self.budget.seconds - elapsed, 0.0))
        return min(ends, default=None)

    def _reported(self, event: TrialReported) -> Row:
        row = self._known(event)
        return replace(
            row,
            state=TrialState.RUNNING,
            step=event.step,
            progress=row.progress if event.progress is None else event.progress,
            epoch=event.metrics.get("epoch", row.epoch),
            value=event.metrics.get(self.metric, row.value),
            earlier=False,
        )

    def _finished(self, event: TrialFinished) -> Row:
        row = self._known(event)
        return replace(
            row,
            state=event.state,
            step=max(event.step, row.step),
            progress=1.0 if event.state is TrialState.COMPLETE else row.progress,
            epoch=max(event.metrics.get("epochs", 0.0), row.epoch),
            value=event.metrics.get(f"best_{self.metric}", row.value),
            reason=event.reason,
            earlier=row.earlier and row.state.is_finished,
        )

    def _known(self, event: TrialReported | TrialFinished) -> Row:
        run = (event.number, event.replicate)
        row = self.runs.get(run) if event.replicate else self.rows.get(event.number)
        return row or Row(event.number, "", {}, replicate=event.replicate)


def _values(runs: Iterable[Row]) -> Iterator[float]:
    return (row.value for row in runs if row.state is TrialState.COMPLETE and row.value is not None)


def _row(trial: TrialRecord) -> Row:
    """Of a trial that had finished before."""
    return Row(
        trial.number,
        trial.origin,
        trial.params,
        trial.state,
        step=int(trial.metrics.get("steps", 0)),
        epoch=trial.metrics.get("epochs", 0.0),
        value=trial.value,
        reason=trial.reason,
        earlier=True,
        replicate=trial.replicate,
    )
