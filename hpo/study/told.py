"""What an earlier driver has told already, read from the events of the study, so that nothing is told twice."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hpo.confirmation import Run
from hpo.records import (
    AnyEvent,
    Confirmed,
    StudyFinished,
    StudyStarted,
    StudyStopped,
    TrialConfirmed,
    TrialDropped,
    TrialFinished,
    TrialRecord,
    TrialReported,
    TrialStarted,
)
from hpo.study.trials import dropped_event, finished_event, started_event
from hpo.tracking.spool import Spool


@dataclass(frozen=True, slots=True)
class Told:
    """steps: of reports, by trial. steps_of_runs: by trial and replicate. confirmed: what fresh seeds say, by trial.
    seconds: wall time of the drivers before that trained something."""

    steps: dict[int, set[int]] = field(default_factory=dict)
    steps_of_runs: dict[Run, set[int]] = field(default_factory=dict)
    confirmed: dict[int, Confirmed] = field(default_factory=dict)
    seconds: float = 0.0


def catch_up(spool: Spool, records: Sequence[TrialRecord], tags: Mapping[str, str]) -> Told:
    """Tell of trials and seed runs that the ledger has and a crash kept from being told, and of trials that a change
    of the space dropped or took back. tags: for each of them."""
    started, ended = set(), set()
    dropped: dict[int, bool] = {}
    told = Told(seconds=_worked(spool.events()))
    for event in spool.events():
        if isinstance(event, TrialStarted):
            started.add((event.number, event.replicate))
        elif isinstance(event, TrialReported) and event.replicate:
            told.steps_of_runs.setdefault((event.number, event.replicate), set()).add(event.step)
        elif isinstance(event, TrialReported):
            told.steps.setdefault(event.number, set()).add(event.step)
        elif isinstance(event, TrialFinished):
            ended.add((event.number, event.replicate))
        elif isinstance(event, TrialConfirmed):
            told.confirmed[event.confirmed.number] = event.confirmed
        elif isinstance(event, TrialDropped):
            dropped[event.number] = event.dropped
    for record in records:
        run = (record.number, record.replicate)
        if record.state.is_finished and run not in ended:
            if run not in started:
                spool.append(started_event(record, tags))
            spool.append(finished_event(record))
        if record.replicate == 0 and record.dropped != dropped.get(record.number, False):
            spool.append(dropped_event(record))
    return told


def _worked(events: Iterable[AnyEvent]) -> float:
    """Seconds from the beginning of each driver to the last that it told by itself; of those that trained."""
    total, begun, last, trained = 0.0, 0.0, 0.0, False
    for event in events:
        if isinstance(event, StudyStarted):
            total += last - begun if trained else 0.0
            begun, trained = event.time, False
        if isinstance(event, TrialReported | TrialConfirmed | StudyStopped | StudyFinished):
            last = event.time
        trained = trained or isinstance(event, TrialReported)
    return total + (last - begun if trained else 0.0)
