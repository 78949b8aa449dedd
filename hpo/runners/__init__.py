"""Runners: where trials run. Each asks a search for trials, runs them, and hands every report back.

A runner decides nothing: not what to try, not when to stop, not what a failure means.
"""

from typing import Protocol

from hpo.records import Failure, Objective, Report, TrialConfig, Verdict


class Search(Protocol):
    """What a runner needs to know of a study. All calls come from one thread."""

    @property
    def stopping(self) -> bool:
        """True: leave as soon as running trials can be left."""
        ...

    @property
    def exhausted(self) -> bool:
        """True: `ask` has nothing more to give, now or later."""
        ...

    def ask(self) -> TrialConfig | None:
        """The next trial to start, or None if there is none now."""
        ...

    def report(self, number: int, report: Report) -> Verdict:
        """Record a report. STOP: pull no further report of this trial. The same report twice changes nothing."""
        ...

    def failed(self, number: int, failure: Failure) -> None:
        """This try of the trial is over. It may be given out again by `ask`. Of a trial that has finished: changes
        nothing."""
        ...


class Runner(Protocol):
    """Runs the trials of a search until it is exhausted or stopping."""

    def run(self, search: Search) -> None: ...


class Resources(Protocol):
    """What one trial gets. gpus: None where that is not settled yet."""

    @property
    def cpus(self) -> int: ...

    @property
    def gpus(self) -> float | None: ...

    @property
    def max_concurrent_trials(self) -> int | None: ...

    @property
    def silent_minutes(self) -> float | None: ...


class MakesRunner(Protocol):
    """address: of a running cluster."""

    def __call__(self, objective: Objective, resources: Resources, address: str | None) -> Runner: ...
