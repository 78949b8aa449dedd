"""The search as a runner sees it: asks the ledger, hears reports, lets the scheduler judge, tells everybody.

Owns the order of things: the ledger first, since it is the truth; then the events that trackers and the screen live
on; then the disk. Everything it does with a report may come twice and then changes nothing.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hpo import crash
from hpo.failures import UNEXPLAINED
from hpo.ledger import PARTS, Ledger, part_of
from hpo.objectives import NO_LIMITS, Limits
from hpo.records import (
    Answered,
    AnyEvent,
    Exploit,
    Failure,
    Report,
    TrialConfig,
    TrialRecord,
    TrialState,
    Verdict,
)
from hpo.report import words
from hpo.schedulers import Scheduler
from hpo.schedulers.base import has_reached
from hpo.study.population import Population, exploited_at
from hpo.study.retries import Retries, noted
from hpo.study.standings import Standings
from hpo.study.steps import Ladder
from hpo.study.trials import Running, finished_event, news_of, started_event, surplus

AT_FIRST = 5
"""So many trials that fail for reasons that need not be their own, before any other has reported, end the search."""

SPEND_EVERY = 30.0
"""Seconds of wall time that a crash may make a study forget, where its trials report that often."""


@dataclass
class StudySearch:
    """Implements `runners.Search`.

    trials, seconds, epochs, target: the budget; trials of the space as it is: those that it has dropped do not count.
    What is owed (the default configuration, a winner that has lost its weights) is trained beyond it too. seconds: of
    wall time, those of earlier drivers counted in. target: the value of a complete trial that is good enough. limits:
    what a winner has to keep. ladder: where trials are compared. keep, keep_bytes: how many of the best checkpoints
    stay, within how many bytes. told: steps by trial of which an earlier driver has told already. tags: for every
    trial. forget: removes what a trial that has ended had written down of itself. clock: in seconds, from any moment
    on; a simulation has its own.
    """

    ledger: Ledger
    scheduler: Scheduler
    metric: str
    mode: Literal["min", "max"]
    ladder: Ladder
    emit: Callable[[AnyEvent], None]
    trials: int | None = None
    seconds: float | None = None
    epochs: float | None = None
    target: float | None = None
    limits: Limits = NO_LIMITS
    keep: int = 2
    keep_bytes: int = 4_000_000_000
    told: dict[int, set[int]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    forget: Callable[[str], None] = lambda name: None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._sign = 1.0 if self.mode == "max" else -1.0
        known = self.ledger.records()
        self._standings = Standings(known, self.mode, self.limits)
        self._running: dict[int, Running] = {}
        self._aside: dict[int, str] = {}
        self._gone: set[int] = set()
        self._is_well = any(record.state.is_finished or record.curve for record in known)
        self._epochs_before: dict[int, float] = {}
        self.retries = Retries.after(known)
        self._spent_at = self.clock()
        self._started = self._spent_at - self.ledger.seconds_used
        self._used_up = False
        self._reached = any(self._is_on_target(record) for record in known)
        self._epochs_spent = sum(own.metrics.get("epochs", 0.0) for own in known if own.state.is_finished)
        for record in known:
            if not record.dropped:
                self._replay(record)
        self._population = Population.of(self.scheduler, self.ledger, self.ladder.fractions)
        if self._population:
            self._population.open()
        self._retain()
        self._is_owing = self.ledger.is_owing

    @property
    def records(self) -> list[TrialRecord]:
        return list(self._standings)

    @property
    def unfinished(self) -> list[TrialRecord]:
        return self._standings.unfinished

    @property
    def is_under_way(self) -> bool:
        """Whether any of its trials runs."""
        return bool(self._running)

    @property
    def stopping(self) -> bool:
        return self.trouble is not None

    @property
    def trouble(self) -> str | None:
        """Why it can't go on, though its budget is not used up: all that was tried failed, by itself or by its machine,
        nobody knows. None while there is anything else to try, or a trial runs."""
        if self._running or not self._aside or not (self._is_doubtful or self.exhausted):
            return None
        number, reason = next(reversed(self._aside.items()))
        return (
            f"{words.count(len(self._aside), 'trial')} failed before any other came to its end, so the machine or what "
            f"is installed there may be at fault (trial {number}: {words.brief(reason)}); none of them is lost or "
            "counted: mend that, then go on with --resume"
        )

    @property
    def _is_doubtful(self) -> bool:
        """Whether more trials would be wasted, as far as anybody knows; the first report says otherwise."""
        return len(self._aside) >= AT_FIRST and not self._is_well

    @property
    def exhausted(self) -> bool:
        """The budget is handed out; trials that still run may finish."""
        known = self._running.keys() | self._aside.keys()
        left_over = any(record.number not in known for record in self._standings.unfinished)
        if left_over or self._is_owing:
            return False
        return self._used_up or self._is_spent or (self.trials is not None and self._standings.live >= self.trials)

    @property
    def _is_spent(self) -> bool:
        """The study is over as soon as it can be: running trials end at their next report, and are recorded."""
        return (
            (self.seconds is not None and self.clock() - self._started >= self.seconds)
            or (self.epochs is not None and self._epochs_spent >= self.epochs)
            or self._reached
        )

    def ask(self) -> TrialConfig | None:
        if self.exhausted or self._is_doubtful:
            return None
        record = self.ledger.ask()
        self._is_owing = self.ledger.is_owing
        if record is None:
            self._used_up = True
            return None
        crash.at("after-ask")
        self._standings.put(record)
        rows = self.retries.rows(record)
        epochs = self._epochs_before.pop(record.number, 0.0)  # spent once, however often a trial is begun
        self._running[record.number] = Running(record, dict(record.curve), epochs=epochs, rows=rows)
        self.scheduler.start(record.number, record.params)
        self.emit(started_event(record, self.tags))
        return TrialConfig(
            number=record.number,
            params=record.params,
            seeds=record.seeds,
            rungs=self.ladder.rungs(record.params),
            keep_above=self._keep_above(record),
            population=self._population.exchange.folder if self._population else None,
            micro_batch=rows.task,
            adapt_micro_batch=rows.adapt,
        )

    def report(self, number: int, report: Report) -> Verdict:
        running = self._running.get(number)
        if running is None:
            return Verdict.STOP
        crash.at("before-report")
        epochs = running.epochs
        if wrong := running.hear(report, self.metric, self.mode):
            self._finish(running, TrialState.FAILED, wrong)
            return Verdict.STOP
        self._is_well = True
        self._epochs_spent += running.epochs - epochs
        value = report.metrics[self.metric]
        self.ledger.report(number, report.progress, value)
        crash.at("after-report")
        for event in news_of(running.record, report, self.told.setdefault(number, set())):
            self.emit(event)
        verdict = self._judge(running, report.progress, value)
        if report.done:
            self._finish(running, TrialState.COMPLETE)
            return Verdict.STOP
        if verdict is Verdict.STOP and not running.record.is_owed:
            self._finish(running, TrialState.PRUNED, f"not among the best at {report.progress:.0%} of training")
            return Verdict.STOP
        if self._is_spent and not running.record.is_owed:
            self._finish(running, TrialState.PRUNED, f"the budget was used up at {report.progress:.0%} of training")
            return Verdict.STOP
        self._goes_on(running, report, verdict)
        if self.clock() - self._spent_at >= SPEND_EVERY:
            self.spend()
        return Verdict.CONTINUE

    def _judge(self, running: Running, progress: float, value: float) -> Verdict | Exploit:
        """What the scheduler says. A trial that is trained again after a crash is not judged anew where it was told to
        go on: decisions are those of a study that was never interrupted."""
        record = running.record
        if known := exploited_at(record, progress):
            return Exploit(known.source, known.params)
        progress = part_of(progress) / PARTS  # as the ledger has it, or a resumed study would see other levels
        level = self.ladder.level(record.params, progress)
        verdict = self.scheduler.report(record.number, level, self._sign * value)
        return Verdict.CONTINUE if _was_answered(record, progress) else verdict

    def _goes_on(self, running: Running, report: Report, verdict: Verdict | Exploit) -> None:
        """Before the trial does, write down that it may, and how: at rungs, where there was something to decide."""
        record, progress = running.record, part_of(report.progress) / PARTS
        before = record.answered.progress if record.answered else 0.0
        if self.ladder.reached(record.params, progress) > self.ladder.reached(record.params, before):
            crash.at("at-rung")
            answered = Answered(progress=progress, steps=round(report.step / report.progress))
            record = record.model_copy(update={"answered": answered})
        if self._population and isinstance(verdict, Exploit) and not record.is_owed:
            record = self._population.exploit(record, report.progress, verdict, self._standings[verdict.source])
        elif record is not running.record:
            self.ledger.told(record)
        running.record = record
        self._standings.put(record)
        if self._population:
            self._tidy(self._population)

    def _goes_on_flat(self, record: TrialRecord, progress: float, best: float) -> None:
        """A trial that is complete before its last step has nothing better to come: its best value stands for it at the
        levels that it does not come to."""
        for rung in self.ladder.skipped(record.params, part_of(progress) / PARTS):
            self.scheduler.recall(record.number, rung, self._sign * best)

    def spend(self) -> None:
        """Write down the wall time of the search so far; to be called by whoever leaves, at any moment. What comes
        after the search, confirming and judging the winner, is not counted."""
        if self._running or not self.exhausted:
            self._spent_at = self.clock()
            self.ledger.spend(self._spent_at - self._started)

    def failed(self, number: int, failure: Failure) -> None:
        running = self._running.get(number)
        if running is None:
            return
        again = self.retries.judge(running.record, failure, running.rows)
        if isinstance(again, str) and (self._is_well or failure.kind not in UNEXPLAINED):
            self._finish(running, TrialState.FAILED, again)
            return
        if isinstance(again, str):  # until a trial has reported, nobody knows whether this one could
            self._aside[number] = again
            record, note = running.record.model_copy(update={"setbacks": ()}), noted(running.record, again)
        else:
            record, note = again
            self.ledger.put_back(number)
        self._standings.put(record)
        self.ledger.told(record)
        self._epochs_before[number] = running.epochs
        del self._running[number]
        self.emit(note)

    def _finish(self, running: Running, state: TrialState, reason: str | None = None) -> None:
        record, number = running.ended(state, self.metric, reason), running.record.number
        if record.value is not None:
            self._goes_on_flat(record, max(record.curve), record.value)
        self.ledger.tell(
            number,
            state,
            value=record.value,
            metrics=record.metrics,
            checkpoint=record.checkpoint,
            seconds=record.seconds,
            reason=reason,
        )
        crash.at("tell-mirror")
        self.spend()
        self._standings.put(record)
        self._reached = self._reached or self._is_on_target(record)
        del self._running[number]
        self._is_well = True
        while self._aside:  # the machine is well: they get another chance
            self.ledger.put_back(self._aside.popitem()[0])
        self.forget(record.name)
        self.emit(finished_event(record))
        crash.at("retain")
        if record.checkpoint is not None:
            self._retain()
        if self._population:
            self._tidy(self._population)

    def _keep_above(self, record: TrialRecord) -> float | None:
        """A trial that stays below it will not be among the best few. Not known where limits count too."""
        ranked = self._standings.ranked
        if len(ranked) < self.keep or record.is_owed or self.limits.limits:
            return None
        return ranked[self.keep - 1].value

    def _tidy(self, population: Population) -> None:
        unfinished = self._standings.unfinished
        reached = {record.number: max(record.curve, default=0.0) for record in unfinished}
        reached |= {number: max(running.curve, default=0.0) for number, running in self._running.items()}
        population.tidy(unfinished, reached, is_over=self.exhausted)

    def _is_on_target(self, record: TrialRecord) -> bool:
        if self.target is None or record.value is None or self.limits.broken_by(record):
            return False
        return self._sign * record.value >= self._sign * self.target

    def _replay(self, record: TrialRecord) -> None:
        """Let the scheduler see again what was answered, each value where it was reported: the rungs may be others now.
        A trial that a crash cut off is judged anew where it was not answered."""
        self.scheduler.start(record.number, record.params)
        for progress, value in sorted(record.curve.items()):
            exploited = exploited_at(record, progress)
            if not record.state.is_finished and not _was_answered(record, progress):
                break
            for rung in self.ladder.met(record.params, progress, record.total_steps):
                self.scheduler.recall(record.number, rung, self._sign * value)
            if exploited:
                self.scheduler.start(record.number, {**record.params, **exploited.params})
        if record.value is not None and record.curve:
            self._goes_on_flat(record, max(record.curve), record.value)

    def _retain(self) -> None:
        """Remove the checkpoints of all but the best few; those that are owed stay until the end."""
        for folder in surplus(self._standings.ranked, self.keep, self.keep_bytes, self._gone):
            shutil.rmtree(folder)


def _was_answered(record: TrialRecord, progress: float) -> bool:
    return record.answered is not None and has_reached(record.answered.progress, progress)
