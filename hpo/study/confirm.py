"""The confirmation as a runner sees it: asks the race which runs are due, writes down what they say, tells everybody.

Owns the order of things, as the search does: the ledger first, then the events, then the disk. A run is scored like a
trial of the search, by its best evaluation, at the same rungs and ends of epochs, so that only the luck of having been
chosen is between its value and the first score.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from hpo import crash
from hpo.confirmation import Candidate, Race, Run
from hpo.failures import OF_CONFIGURATION
from hpo.ledger.seeds import SeedLedger
from hpo.objectives import NO_LIMITS, Limits, bounds_of
from hpo.records import (
    AnyEvent,
    Confirmed,
    Failure,
    FailureKind,
    Report,
    TrialConfig,
    TrialConfirmed,
    TrialRecord,
    TrialState,
    Verdict,
)
from hpo.study.retries import Need, Retries, noted
from hpo.study.steps import Ladder
from hpo.study.trials import Running, finished_event, news_of, started_event


def leaders(
    best_first: Sequence[TrialRecord], top: int, baseline: int | None, limits: Limits = NO_LIMITS
) -> list[TrialRecord]:
    """The first `top` of the complete trials that keep the limits (of all, where none does), an assignment once, and
    the default configuration, which is trial `baseline`."""
    kept = [record for record in best_first if record.number == baseline or not limits.broken_by(record)]
    found: list[TrialRecord] = []
    for record in kept if any(not limits.broken_by(record) for record in kept) else best_first:
        same = next((place for place, other in enumerate(found) if _assigned(other) == _assigned(record)), None)
        if same is None:
            found.append(record)
        elif record.number == baseline:
            found[same] = record
    return found[:top] + [record for record in found[top:] if record.number == baseline]


@dataclass
class Confirmation:
    """Implements `runners.Search`. Its trials are runs of `trials` (the leaders, best first) over fresh seeds.

    baseline: the one of them that is the default configuration, against which all gains are measured, if it is there.
    ladder: where runs are evaluated. keep_bytes: what all checkpoints of the study may take; searched: the trials of
    the search, best first, whose checkpoints go before those of the runs where it is short. told: steps by trial and
    replicate, said: what fresh seeds say by trial, of which an earlier driver has told already. tags: for every run.
    limits: what a winner has to keep. fitting: how many rows at a time fit into memory, as the search has found out.
    forget: removes what a run that has ended had written down of itself. trouble: why it can't go on, though it is not
    over: a run was lost to its machine, which says nothing of what it trains.
    """

    ledger: SeedLedger
    trials: Sequence[TrialRecord]
    seeds: int
    confidence: float
    metric: str
    mode: Literal["min", "max"]
    ladder: Ladder
    emit: Callable[[AnyEvent], None]
    baseline: int | None
    keep_bytes: int = 4_000_000_000
    searched: Sequence[TrialRecord] = ()
    told: dict[Run, set[int]] = field(default_factory=dict)
    said: dict[int, Confirmed] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = NO_LIMITS
    fitting: Mapping[Need, int] = field(default_factory=dict)
    forget: Callable[[str], None] = lambda name: None
    trouble: str | None = None

    def __post_init__(self) -> None:
        self._sign = 1.0 if self.mode == "max" else -1.0
        self._trials = {record.number: record for record in self.trials}
        self._running: dict[int, Running] = {}
        self._lost: set[Run] = set()
        self._finished = self.ledger.finished()
        self.retries = Retries.after(self._finished.values(), self.fitting)
        self._race = Race(
            [
                Candidate(
                    record.number,
                    record.origin,
                    record.value,
                    is_reference=record.number == self.baseline,
                    is_barred=bool(self.limits.broken_by(record)),
                )
                for record in self.trials
                if record.value is not None
            ],
            self.seeds,
            self.confidence,
            self.mode,
            bounds_of(self.metric),
        )
        self._settle()

    @property
    def stopping(self) -> bool:
        return self.trouble is not None

    @property
    def exhausted(self) -> bool:
        return not self._wanted()

    @property
    def standing(self) -> tuple[Confirmed, ...]:
        """What the fresh seeds say so far, the best mean first; in the end, the first one has won."""
        return self._race.standing(self._scores())

    def promoted(self, number: int) -> TrialRecord | None:
        """The run of a trial whose checkpoint stands for it: its best one on the validation rows.

        Which of equally configured runs is taken changes nothing about the winner, which its mean has named; the best
        one is the best guess at the best weights, and its score on the test rows is honest, since no choice was made
        there.
        """
        return max(self._complete(number), key=lambda own: (self._sign * _value(own), -own.replicate), default=None)

    def ask(self) -> TrialConfig | None:
        under_way = {(own.record.number, own.record.replicate) for own in self._running.values()}
        due = next((run for run in self._wanted() if run not in under_way), None)
        if due is None:
            return None
        number, replicate = due
        handle, record = self.ledger.start(self._trials[number], replicate)
        crash.at("confirm-ask")
        rows = self.retries.rows(record)
        self._running[handle] = Running(record, dict(record.curve), rows=rows)
        self.emit(started_event(record, self.tags))
        best = self.promoted(number)
        return TrialConfig(
            number=handle,
            params=record.params,
            seeds=record.seeds,
            rungs=self.ladder.rungs(record.params),
            keep_above=_value(best) if best is not None and due not in self._finished else None,
            replicate=replicate,
            of=number,
            schedule=self._trials[number].schedule,
            micro_batch=rows.task,
            adapt_micro_batch=rows.adapt,
        )

    def report(self, number: int, report: Report) -> Verdict:
        running = self._running.get(number)
        if running is None:
            return Verdict.STOP
        if wrong := running.hear(report, self.metric, self.mode):
            self._finish(number, TrialState.FAILED, wrong)
            return Verdict.STOP
        record = running.record
        self.ledger.report(number, report.progress, report.metrics[self.metric])
        crash.at("confirm-report")
        for event in news_of(record, report, self.told.setdefault((record.number, record.replicate), set())):
            self.emit(event)
        if not report.done:
            return Verdict.CONTINUE
        self._finish(number, TrialState.COMPLETE)
        return Verdict.STOP

    def failed(self, number: int, failure: Failure) -> None:
        running = self._running.get(number)
        if running is None:
            return
        again = self.retries.judge(running.record, failure, running.rows)
        is_short = failure.kind is FailureKind.OUT_OF_MEMORY and self.retries.is_whole(running.record)
        if isinstance(again, str) and (is_short or failure.kind in OF_CONFIGURATION):
            self._finish(number, TrialState.FAILED, again)
            return
        if isinstance(again, str):
            self._lose(number, again)
            return
        del self._running[number]  # so that it is due again
        self.ledger.told(number, again[0])
        self.emit(again[1])

    def _lose(self, handle: int, reason: str) -> None:
        """Leave a run that its machine has ended, and all others; the next driver tries it anew."""
        record = self._running.pop(handle).record
        fresh = {"setbacks": (), "micro_batch": None, "adapt_micro_batch": None}
        self.ledger.told(handle, record.model_copy(update=fresh))
        self.emit(noted(record, reason))
        self.trouble = (
            f"trial {record.number} over fresh seed {record.replicate} was lost, by no fault of what it trains "
            f"({reason}); nothing else is: mend its machine, then go on with --resume"
        )

    def _finish(
        self, handle: int, state: Literal[TrialState.COMPLETE, TrialState.FAILED], reason: str | None = None
    ) -> None:
        record = self._running.pop(handle).ended(state, self.metric, reason)
        run = (record.number, record.replicate)
        if (earlier := self._finished.get(run)) is not None:
            record = self._repeated(earlier, record)
        self.ledger.tell(
            handle,
            state,
            value=record.value,
            metrics=record.metrics,
            checkpoint=record.checkpoint,
            seconds=record.seconds,
            reason=reason,
        )
        crash.at("confirm-tell")
        self._finished[run] = record
        self.forget(record.name)
        self.emit(finished_event(record))
        self._settle()

    def _repeated(self, earlier: TrialRecord, record: TrialRecord) -> TrialRecord:
        """A run that was made again for its weights keeps its value: the race is over, and was won by it."""
        if record.checkpoint is None:
            self._lost.add((record.number, record.replicate))
            return earlier
        return earlier.model_copy(update={"checkpoint": record.checkpoint})

    def _settle(self) -> None:
        """Say what is final, and remove what is needed no more."""
        scores = self._scores()
        is_over, out = not self._race.due(scores), self._race.out(scores)
        standing = self._race.standing(scores)
        for one in standing:
            if (is_over or one.number in out) and self.said.get(one.number) != one:
                self.said[one.number] = one
                self.emit(TrialConfirmed(time=time.time(), confirmed=one, mode=self.mode))
        self._retain(standing, is_over=is_over)
        if self.exhausted:
            for left in self.ledger.give_up(self._running):
                self.forget(left.name)

    def _scores(self) -> dict[int, dict[int, float | None]]:
        scores: dict[int, dict[int, float | None]] = {}
        for (number, replicate), record in self._finished.items():
            if replicate <= self.seeds:
                scores.setdefault(number, {})[replicate] = record.value
        return scores

    def _wanted(self) -> list[Run]:
        """Runs that are due, those under way among them. When the race is over, those whose weights are wanted again:
        of the winner and of the default configuration, where the disk had no room for them meanwhile."""
        scores = self._scores()
        if due := self._race.due(scores):
            return due
        standing = self._race.standing(scores)
        best = [self.promoted(number) for number in self._final(standing)]
        return [
            (own.number, own.replicate)
            for own in best
            if own is not None
            and own.checkpoint is not None
            and not own.checkpoint.is_dir()
            and (own.number, own.replicate) not in self._lost
        ]

    def _final(self, standing: Sequence[Confirmed]) -> list[int]:
        """The winner, and the default configuration."""
        baseline = [one.number for one in standing[1:] if one.number == self.baseline]
        return [one.number for one in standing[:1]] + baseline

    def _complete(self, number: int) -> list[TrialRecord]:
        return [
            record
            for (own, replicate), record in self._finished.items()
            if own == number and replicate <= self.seeds and record.state is TrialState.COMPLETE
        ]

    def _retain(self, standing: Sequence[Confirmed], *, is_over: bool) -> None:
        """Keep the best run's checkpoint of whoever can still win, one of the present leader at least, and that of the
        default configuration; then those of the search, as long as there is room."""
        may_win = self._final(standing) if is_over else [one.number for one in standing if not one.is_out]
        best = [self.promoted(number) for number in may_win]
        wanted = [own for own in best if own is not None]
        names = {own.checkpoint.name for own in wanted if own.checkpoint is not None}
        for record in self._finished.values():
            if record.checkpoint is not None and record.checkpoint.name not in names:
                shutil.rmtree(record.checkpoint, ignore_errors=True)
        room = self.keep_bytes
        for place, record in enumerate(_on_disk([*wanted, *self.searched])):
            assert record.checkpoint is not None
            room -= sum(file.stat().st_size for file in record.checkpoint.iterdir())
            is_default_s = record.number == self.baseline and record.replicate > 0
            if room < 0 and place > 0 and not is_default_s:
                shutil.rmtree(record.checkpoint)


def _assigned(record: TrialRecord) -> tuple[object, object]:
    return record.params, record.schedule


def _on_disk(records: Iterable[TrialRecord]) -> Iterator[TrialRecord]:
    return (record for record in records if record.checkpoint is not None and record.checkpoint.is_dir())


def _value(record: TrialRecord) -> float:
    assert record.value is not None  # a complete run has one
    return record.value
