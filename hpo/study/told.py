"""What an earlier driver has told already, read from the events of the study, so that nothing is told twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hpo.confirmation import Run
from hpo.records import (
    Confirmed,
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
    """steps: of reports, by trial. steps_of_runs: by trial and replicate. confirmed: what fresh seeds say, by trial."""

    steps: dict[int, set[int]] = field(default_factory=dict)
    steps_of_runs: dict[Run, set[int]] = field(default_factory=dict)
    confirmed: dict[int, Confirmed] = field(default_factory=dict)


def catch_up(spool: Spool, records: Sequence[TrialRecord], tags: Mapping[str, str]) -> Told:
    """Tell of trials and seed runs that the ledger has and a crash kept from being told, and of trials that a change
    of the space dropped or took back. tags: for each of them."""
    started, ended = set(), set()
    dropped: dict[int, bool] = {}
    told = Told()
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
