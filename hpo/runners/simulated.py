"""Trials in simulated time: a clock of its own, no training, no sleeping. For tests, benchmarks, and trying a set-up.

The objective says how long everything takes, in the `seconds` of its reports; so many trials run beside each other, and
what they say is heard in the order of simulated time. Salinas et al., "Syne Tune", AutoML 2022, section 3. Must not
know where the reports come from.
"""

import heapq
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Literal

from hpo.errors import TrialError
from hpo.failures import failure_of
from hpo.records import Objective, Report, Verdict
from hpo.runners import Search


@dataclass
class Clock:
    """Simulated seconds since the beginning; called, it says them."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True, slots=True)
class Moment:
    """A report, and what had been spent by then. seconds: simulated wall time. epochs: of training, all trials.
    started: how many trials had been started."""

    number: int
    report: Report
    seconds: float
    epochs: float
    started: int


@dataclass(frozen=True, slots=True)
class Lead:
    """A trial that ran to its end better than all before it. started: how many trials had been started by then."""

    number: int
    value: float
    seconds: float
    epochs: float
    started: int


@dataclass
class SimulatedRunner:
    """slots: trials beside each other. moments: every report that the search heard, in order.

    A trial's reports carry `seconds` since its start, rising, and `epoch`; one without takes no time, or no training.
    """

    objective: Objective
    slots: int = 1
    clock: Clock = field(default_factory=Clock)
    moments: list[Moment] = field(default_factory=list)
    busy: float = 0.0
    """Seconds of all slots together, waiting not counted."""

    _queue: list[tuple[float, int, "_Flight", Report]] = field(default_factory=list)
    _epochs: float = 0.0
    _started: int = 0

    def run(self, search: Search) -> None:
        """Only a TrialError fails a trial; anything else is a bug, and comes out with its traceback."""
        try:
            while not search.stopping:
                self._fill(search)
                if not self._queue:
                    return
                self._hear(search)
        finally:
            for _, _, flight, _ in self._queue:
                flight.close()

    def _fill(self, search: Search) -> None:
        while len(self._queue) < self.slots and not search.exhausted:
            config = search.ask()
            if config is None:
                return
            self._started += 1
            flight = _Flight(config.number, self.clock.now, self.objective(config))
            self._pull(flight, search)

    def _pull(self, flight: "_Flight", search: Search) -> None:
        """Put the flight's next report where it belongs in time; a flight that fails or ends is over now."""
        try:
            report = next(flight.reports, None)
        except TrialError as error:
            search.failed(flight.number, failure_of(error))
            return
        if report is not None:
            moment = max(self.clock.now, flight.began + report.metrics.get("seconds", 0.0))
            heapq.heappush(self._queue, (moment, flight.number, flight, report))  # of two at a time the earlier trial's

    def _hear(self, search: Search) -> None:
        moment, _, flight, report = heapq.heappop(self._queue)
        self.clock.now = moment
        self.busy += moment - flight.heard
        self._epochs += max(0.0, report.metrics.get("epoch", 0.0) - flight.epochs)
        flight.heard, flight.epochs = moment, max(flight.epochs, report.metrics.get("epoch", 0.0))
        self.moments.append(Moment(flight.number, report, moment, self._epochs, self._started))
        if search.report(flight.number, report) is Verdict.STOP:
            flight.close()
        else:
            self._pull(flight, search)


class _Flight:
    """A trial under way. began, heard: when it started, and when it last reported. epochs: trained so far."""

    def __init__(self, number: int, began: float, reports: Generator[Report, None, None]) -> None:
        self.number, self.began, self.reports = number, began, reports
        self.heard, self.epochs = began, 0.0

    def close(self) -> None:
        with closing(self.reports):
            pass


def leads(moments: Sequence[Moment], metric: str, mode: Literal["min", "max"]) -> list[Lead]:
    """The history of the best trial that ran to its end. It counts from its last report on, with its best value."""
    sign = 1.0 if mode == "max" else -1.0
    best: dict[int, float] = {}
    found: list[Lead] = []
    for moment in moments:
        number, value = moment.number, moment.report.metrics[metric]
        best[number] = max(sign * value, best.get(number, sign * value))
        if moment.report.done and (not found or best[number] > sign * found[-1].value):
            found.append(Lead(number, sign * best[number], moment.seconds, moment.epochs, moment.started))
    return found
